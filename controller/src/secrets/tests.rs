//! What the vault opens, and what a start does with keys.

use std::path::Path;
use std::sync::Arc;

use longshore_core::time::Timestamp;
use longshore_core::variables::Scope;

use super::kek::Source;
use super::*;
use crate::clock::Clock;
use crate::data_dir::DataDir;
use crate::store::rows::{Owner, ProjectRow, VariableRow, VariableValue};
use crate::store::sqlite::Sqlite;
use crate::store::{self, DataKeyRow, SealedRow, Store};
use crate::tasks::Tasks;

#[test]
fn opens_what_it_sealed_and_nothing_else() {
    let vault = Vault::for_tests(&[]).unwrap();
    for id in [1, 2] {
        vault.add(2, &[5; 32]).unwrap();
        vault.promote(id);
        let sealed = vault.seal("variable:v1:value", b"hunter2").unwrap();
        assert_eq!(key_of(&sealed), Some(id));
        assert!(!sealed.windows(7).any(|w| w == b"hunter2"));
        assert_ne!(sealed, vault.seal("variable:v1:value", b"hunter2").unwrap(), "nonces differ");
        assert_eq!(vault.open("variable:v1:value", &sealed).unwrap().as_slice(), b"hunter2");
        assert!(vault.open("variable:v2:value", &sealed).is_err(), "moved to another row");
        for cut in 0..sealed.len() {
            assert!(vault.open("variable:v1:value", &sealed[..cut]).is_err());
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(vault.open("variable:v1:value", &changed).is_err());
        }
    }
}

#[test]
fn a_key_opens_before_it_seals_and_the_ones_before_it_go_on_to_open() {
    let vault = Vault::for_tests(&[]).unwrap();
    let first = vault.seal("a", b"b").unwrap();
    let wrapped = vault.add(2, &[5; 32]).unwrap();
    assert_eq!(vault.current(), 1, "not before it is durable");
    vault.promote(3);
    assert_eq!(vault.current(), 1, "no key that is not there");
    vault.promote(2);
    vault.promote(1);
    assert_eq!(vault.current(), 2, "never back");
    let second = vault.seal("a", b"b").unwrap();
    let again = Vault::for_tests(&[DataKeyRow { id: 2, wrapped, created_at: Timestamp::from_micros(1) }]).unwrap();
    for sealed in [&first, &second] {
        assert_eq!(again.open("a", sealed).unwrap().as_slice(), b"b");
    }
    assert_eq!(again.current(), 2);
}

struct Home {
    folder: tempfile::TempDir,
    dir: DataDir,
    store: Arc<dyn Store>,
    clock: Clock,
}

impl Home {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::open(&folder.path().join("data")).unwrap();
        let store = Arc::new(Sqlite::open(&folder.path().join("db"), &Tasks::new()).await.unwrap());
        Self { folder, dir, store, clock: Clock::system() }
    }

    async fn open(&self, kek: Source, previous: Option<Source>) -> Result<Vault, String> {
        let settings = Settings { kek, previous };
        startup::open(&self.store, &self.dir, &settings, &self.clock).await.map_err(|error| error.to_string())
    }

    async fn keys(&self) -> Vec<DataKeyRow> {
        self.store.read::<_, store::Error, _>(|tx| Box::pin(async move { tx.data_keys().await })).await.unwrap()
    }

    /// A file with a key of one byte.
    fn file(&self, byte: &str) -> Source {
        let path = self.folder.path().join(byte);
        write(&path, &byte.repeat(32));
        Source::File(path)
    }
}

fn write(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn the_kek_decides_whether_a_database_opens() {
    let home = Home::new().await;
    let (path, own) = (home.dir.path().join("kek"), || home.open(Source::DataDir, None));
    let sealed = own().await.unwrap().seal("a", b"b").unwrap();
    let keys = home.keys().await;
    assert_eq!(own().await.unwrap().open("a", &sealed).unwrap().as_slice(), b"b");

    let kek = std::fs::read_to_string(&path).unwrap();
    write(&path, &"ab".repeat(32));
    assert!(own().await.unwrap_err().contains("the file `kek` of the data directory"));
    write(&path, "rubbish");
    let error = own().await.unwrap_err();
    assert!(error.contains("64 hex digits") && !error.contains("rubbish"), "{error}");
    std::fs::remove_file(&path).unwrap();
    assert!(own().await.unwrap_err().contains("is missing"));
    assert!(!path.exists(), "no new key beside old data");
    let error = home.open(home.file("cd"), None).await.unwrap_err();
    assert!(error.contains("cd`") && error.contains("Nothing was changed"), "{error}");
    assert_eq!(home.keys().await, keys, "nothing was changed");
    write(&path, &kek);
    own().await.unwrap();
}

#[tokio::test]
async fn a_new_kek_takes_over_when_the_old_one_is_given_too() {
    let home = Home::new().await;
    let (old, new) = (home.file("ab"), home.file("cd"));
    let sealed = home.open(old.clone(), None).await.unwrap().seal("a", b"b").unwrap();
    assert!(!home.dir.path().join("kek").exists(), "only where it is asked for");
    assert!(home.open(new.clone(), Some(home.file("ef"))).await.is_err());
    for previous in [Some(old.clone()), Some(old.clone()), None] {
        let vault = home.open(new.clone(), previous).await.unwrap();
        assert_eq!(vault.open("a", &sealed).unwrap().as_slice(), b"b");
    }
    assert!(home.open(old, None).await.is_err(), "it opens nothing any more");
}

#[tokio::test]
async fn a_start_tests_what_is_stored_and_removes_keys_that_nothing_is_on() {
    let home = Home::new().await;
    let vault = home.open(Source::DataDir, None).await.unwrap();
    let project = home.clock.project_id();
    let place = Place::Variable { owner: Owner::Project(project), environment: None, name: "n".to_owned() };
    let insert = async |value: Vec<u8>| {
        let done: Result<i64, store::Error> = home
            .store
            .write(move |tx| {
                Box::pin(async move {
                    let at = Timestamp::from_micros(1);
                    let row =
                        ProjectRow { id: project, name: "p".to_owned(), revision: 1, created_at: at, updated_at: at };
                    tx.save_project(&row).await?;
                    tx.insert_variable(&VariableRow {
                        id: 0,
                        owner: Owner::Project(project),
                        scope: Scope::All,
                        name: "n".to_owned(),
                        value: VariableValue::Sealed(value),
                        created_at: at,
                        created_by: String::new(),
                    })
                    .await
                })
            })
            .await;
        done.unwrap()
    };
    let wrapped = vault.add(2, &[5; 32]).unwrap();
    let row = DataKeyRow { id: 2, wrapped, created_at: Timestamp::from_micros(1) };
    let stored = row.clone();
    let done: Result<(), store::Error> =
        home.store.write(move |tx| Box::pin(async move { tx.insert_data_key(&stored).await })).await;
    done.unwrap();
    let old = insert(vault.seal(&place.aad(), b"of key 1").unwrap()).await;
    home.open(Source::DataDir, None).await.unwrap();
    assert_eq!(home.keys().await.len(), 2, "one secret is still on the first");
    vault.promote(2);
    let sealed = vault.seal(&place.aad(), b"of key 2").unwrap();
    let row = SealedRow { row: old, place: place.clone(), sealed: home.sealed().await.swap_remove(0).sealed };
    let done: Result<bool, store::Error> =
        home.store.write(move |tx| Box::pin(async move { tx.reseal(&row, &sealed).await })).await;
    assert!(done.unwrap());
    let vault = home.open(Source::DataDir, None).await.unwrap();
    assert_eq!(home.keys().await.iter().map(|row| row.id).collect::<Vec<_>>(), [2]);

    for (bad, why) in [
        (b"hunter2, in clear".to_vec(), "is not encrypted"),
        (vault.seal("variable:other", b"moved").unwrap(), "does not open"),
    ] {
        let row = insert(bad).await;
        let error = home.open(Source::DataDir, None).await.unwrap_err();
        assert!(error.contains(&place.aad()) && error.contains(why) && !error.contains("hunter2"), "{error}");
        let sealed = home.sealed().await.into_iter().find(|found| found.row == row).unwrap();
        let good = vault.seal(&place.aad(), b"good").unwrap();
        let done: Result<bool, store::Error> =
            home.store.write(move |tx| Box::pin(async move { tx.reseal(&sealed, &good).await })).await;
        assert!(done.unwrap());
        home.open(Source::DataDir, None).await.unwrap();
    }
}

impl Home {
    async fn sealed(&self) -> Vec<SealedRow> {
        self.store
            .read::<_, store::Error, _>(|tx| Box::pin(async move { tx.sealed(Kind::Variable, 0, 100).await }))
            .await
            .unwrap()
    }
}
