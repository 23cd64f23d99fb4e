//! No job is taken while jobs could reach the cloud's metadata service and the configuration does not permit it.

use std::net::SocketAddr;

use crate::config::Metadata;
use crate::executor::{Error, Executor, metadata::remedy};

/// Why no jobs are taken, as one look found it.
pub(super) async fn look(executor: &Executor, wanted: Metadata) -> Option<String> {
    match wanted {
        Metadata::Allowed => None,
        Metadata::Blocked => judge(executor.metadata_in_reach().await),
    }
}

fn judge(reached: Result<Vec<SocketAddr>, Error>) -> Option<String> {
    let reason = match reached {
        Ok(reached) if reached.is_empty() => return None,
        Ok(reached) => {
            let places: Vec<String> = reached.iter().map(|place| place.ip().to_string()).collect();
            format!(
                "jobs would reach the cloud's metadata service ({}) and with it the rights of this host, so no job is taken; {}",
                places.join(", "),
                remedy(&reached)
            )
        }
        Err(error) => format!(
            "whether jobs reach the cloud's metadata service cannot be found out, so no job is taken ({}); see to the engine, \
             or permit it with `metadata = \"allowed\"`",
            error.full()
        ),
    };
    Some(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reached_or_not_known_holds_jobs_back() {
        assert_eq!(judge(Ok(vec![])), None);
        let reached = judge(Ok(vec!["169.254.169.254:80".parse().unwrap()])).unwrap();
        assert!(reached.contains("(169.254.169.254)") && reached.contains("DOCKER-USER"), "{reached}");
        let error = Error::Engine { what: "import".to_owned(), detail: "no".to_owned() };
        assert!(judge(Err(error)).unwrap().contains("cannot be found out"));
    }
}
