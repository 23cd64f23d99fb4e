//! Where plugins come from: out of an image, out of a directory of the host, from a web server with Pulumi's archives.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder};
use futures_util::StreamExt as _;
use longshore_core::plugins::{Origin, Plugin};

use super::tree::{self, Hashing};
use crate::executor::{Executor, Wanted};
use crate::tasks;

/// Longest that a mirror may be silent.
const SILENCE: Duration = Duration::from_secs(60);
/// Longest archive.
const MOST: u64 = 2 << 30;

/// A plugin that was unpacked.
pub(super) struct Found {
    /// SHA-256 in hex: of the archive, or of the tree where there is none.
    pub(super) checksum: String,
}

impl Executor {
    /// Unpacks a plugin into an empty directory and says which checksum it has.
    pub(super) async fn fetch(&self, plugin: &Plugin, to: &Path) -> Result<Found, String> {
        match &plugin.from {
            Origin::Image { image, path } => {
                let path = format!("{}/{}", path.trim_end_matches('/'), plugin.directory());
                self.out_of_image(image, &path, to).await
            }
            Origin::Folder { folder } => from_folder(Path::new(folder), plugin, to).await,
            Origin::Mirror { mirror } => from_mirror(mirror, plugin, to).await,
        }
    }

    /// Out of a container of the image that is never started.
    async fn out_of_image(&self, image: &str, path: &str, to: &Path) -> Result<Found, String> {
        let wanted = Wanted::from(image);
        let image = self.prepare_image(&wanted, |_| ()).await.map_err(|error| error.full())?;
        let name = format!("longshore-plugins-from-{}", self.inner.config.agent);
        self.remove(&name).await.map_err(|error| error.full())?;
        let body = ContainerCreateBody {
            image: Some(image.id),
            labels: Some(crate::executor::metadata::labels(&self.inner.config.agent.to_string())),
            network_disabled: Some(true),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let created =
            self.inner.docker.create_container(Some(options), body).await.map_err(|error| error.to_string())?;
        let fetched = self.download(&created.id, path, to).await;
        self.remove(&name).await.map_err(|error| error.full())?;
        fetched?;
        of_tree(to).await
    }

    async fn download(&self, container: &str, path: &str, to: &Path) -> Result<(), String> {
        let file = to.with_file_name("download.tar");
        let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
        let stream = self.inner.docker.download_from_container(container, Some(options));
        let chunks = stream.map(|chunk| chunk.map_err(|error| format!("`{path}` cannot be read: {error}")));
        save(chunks, &file).await?;
        let to = to.to_owned();
        let unpacked = tasks::blocking(move || {
            tree::unpack(File::open(&file)?, 1, &to)?;
            std::fs::remove_file(file)
        });
        unpacked.await.map_err(|error| error.to_string())
    }
}

/// Writes a stream to a file.
async fn save(
    chunks: impl futures_util::Stream<Item = Result<bytes::Bytes, String>>,
    path: &Path,
) -> Result<(), String> {
    let mut chunks = std::pin::pin!(chunks);
    let failed = |error: io::Error| format!("`{}` cannot be written: {error}", path.display());
    let mut file = Some(File::create(path).map_err(failed)?);
    let mut bytes = 0_u64;
    loop {
        let next = tokio::time::timeout(SILENCE, chunks.next()).await;
        let next = next.map_err(|_| format!("nothing came for {} s", SILENCE.as_secs()))?;
        let Some(chunk) = next.transpose()? else { return Ok(()) };
        bytes = bytes.saturating_add(chunk.len() as u64);
        if bytes > MOST {
            return Err(format!("is longer than {} GiB", MOST >> 30));
        }
        if let Some(mut open) = file.take() {
            let written = tasks::blocking(move || open.write_all(&chunk).map(|()| open));
            file = Some(written.await.map_err(failed)?);
        }
    }
}

/// The plugin's directory, else its archive.
async fn from_folder(folder: &Path, plugin: &Plugin, to: &Path) -> Result<Found, String> {
    let (directory, archive) = (folder.join(plugin.directory()), folder.join(archive_name(plugin)));
    if directory.is_dir() {
        let target = to.to_owned();
        let copied = tasks::blocking(move || tree::copy(&directory, &target));
        copied.await.map_err(|error| error.to_string())?;
        return of_tree(to).await;
    }
    if archive.is_file() {
        return of_archive(&archive, to).await;
    }
    Err(format!("neither `{}` nor `{}` is there", directory.display(), archive.display()))
}

async fn from_mirror(mirror: &str, plugin: &Plugin, to: &Path) -> Result<Found, String> {
    let url = format!("{}/{}", mirror.trim_end_matches('/'), archive_name(plugin));
    let client = reqwest::Client::builder().connect_timeout(SILENCE).build().map_err(|error| error.to_string())?;
    let answer = client.get(&url).send().await.map_err(|error| unfetched(&url, error))?;
    if !answer.status().is_success() {
        return Err(format!("`{url}` was not fetched: the mirror answered {}", answer.status()));
    }
    let file = to.with_file_name("download.tar.gz");
    save(answer.bytes_stream().map(|chunk| chunk.map_err(|error| unfetched(&url, error))), &file).await?;
    let found = of_archive(&file, to).await?;
    tasks::blocking(move || std::fs::remove_file(file)).await.map_err(|error| error.to_string())?;
    Ok(found)
}

fn unfetched(url: &str, error: reqwest::Error) -> String {
    // It would repeat the address.
    let error = error.without_url();
    let mut text = format!("`{url}` was not fetched");
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The name that Pulumi publishes a plugin's archive by.
fn archive_name(plugin: &Plugin) -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}-v{}-linux-{architecture}.tar.gz", plugin.program(), plugin.version)
}

/// Unpacks an archive. Its checksum is known before anything of it is looked at.
async fn of_archive(archive: &Path, to: &Path) -> Result<Found, String> {
    let (archive, to) = (archive.to_owned(), to.to_owned());
    let unpacked = tasks::blocking(move || {
        let checksum = Hashing::new(File::open(&archive)?).finish()?;
        let limited = flate2::read::GzDecoder::new(File::open(&archive)?).take(MOST.saturating_mul(2));
        tree::unpack(limited, 0, &to)?;
        Ok(Found { checksum })
    });
    unpacked.await.map_err(|error| error.to_string())
}

async fn of_tree(to: &Path) -> Result<Found, String> {
    let to = to.to_owned();
    let digested = tasks::blocking(move || Ok(Found { checksum: tree::digest(&to)? }));
    digested.await.map_err(|error| error.to_string())
}
