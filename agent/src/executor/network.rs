//! The bridge `longshore`: containers reach the outside and not each other.
//!
//! Invariant: what is used has the bridge driver and no traffic between containers. Engines before 23.0 allow two
//! networks of one name, so agents that race for it agree on the oldest one by id, and containers name the id.

use std::collections::HashMap;

use bollard::models::{Network, NetworkCreateRequest};
use bollard::query_parameters::ListNetworksOptionsBuilder;

use super::engine::{is_missing, status};
use super::{Error, Executor};

/// The network's name.
const NAME: &str = "longshore";
/// The bridge driver's option for traffic between containers.
const ICC: &str = "com.docker.network.bridge.enable_icc";

impl Executor {
    /// Makes the network `longshore` if it is not there and returns its id.
    ///
    /// # Errors
    /// [`Error::Network`] when something else has that name.
    pub async fn ensure_network(&self) -> Result<String, Error> {
        let mut known = self.inner.network.lock().await;
        if let Some(id) = &*known {
            return Ok(id.clone());
        }
        let id = match self.oldest_network().await? {
            Some(id) => id,
            None => self.make_network().await?,
        };
        *known = Some(id.clone());
        Ok(id)
    }

    /// For when the engine no longer has it: someone pruned networks.
    pub(super) async fn forget_network(&self) {
        *self.inner.network.lock().await = None;
    }

    async fn make_network(&self) -> Result<String, Error> {
        let request = NetworkCreateRequest {
            name: NAME.to_owned(),
            driver: Some("bridge".to_owned()),
            options: Some(HashMap::from([(ICC.to_owned(), "false".to_owned())])),
            labels: Some(HashMap::from([("longshore.network".to_owned(), "1".to_owned())])),
            ..NetworkCreateRequest::default()
        };
        let made = match self.inner.docker.create_network(request).await {
            Ok(made) => Some(made.id),
            Err(error) if status(&error) == Some(409) => None,
            Err(error) => return Err(self.failed(format!("create network `{NAME}`"), error)),
        };
        let id = self.oldest_network().await?.ok_or_else(|| Error::Network {
            cause: "is gone right after it was made; something removes networks on the agent's host".to_owned(),
        })?;
        if let Some(ours) = made.filter(|ours| *ours != id) {
            match self.inner.docker.remove_network(&ours).await {
                Ok(()) => {}
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(self.failed(format!("remove the second network `{NAME}`"), error)),
            }
        }
        Ok(id)
    }

    async fn oldest_network(&self) -> Result<Option<String>, Error> {
        let options = ListNetworksOptionsBuilder::new().filters(&HashMap::from([("name", vec![NAME])])).build();
        let found = self.inner.docker.list_networks(Some(options)).await;
        let found = found.map_err(|error| self.failed("list its networks", error))?;
        oldest(found)
    }
}

/// The oldest network of that very name (the engine's filter takes parts of names too), if it is what is needed.
fn oldest(found: Vec<Network>) -> Result<Option<String>, Error> {
    let same_name = found.into_iter().filter(|network| network.name.as_deref() == Some(NAME));
    let Some(network) = same_name.min_by(|a, b| (&a.created, &a.id).cmp(&(&b.created, &b.id))) else {
        return Ok(None);
    };
    let icc = network.options.as_ref().and_then(|options| options.get(ICC));
    if network.driver.as_deref() != Some("bridge") || icc.map(String::as_str) != Some("false") {
        let cause =
            format!("is there and lets containers reach each other (driver bridge with `{ICC}=false` is needed)");
        return Err(Error::Network { cause });
    }
    Ok(network.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, id: &str, created: &str, icc: &str) -> Network {
        Network {
            name: Some(name.to_owned()),
            id: Some(id.to_owned()),
            created: Some(created.to_owned()),
            driver: Some("bridge".to_owned()),
            options: Some(HashMap::from([(ICC.to_owned(), icc.to_owned())])),
            ..Network::default()
        }
    }

    #[test]
    fn racing_agents_agree_on_the_oldest() {
        let found = || {
            vec![
                network(NAME, "b", "2", "false"),
                network("longshore-x", "c", "0", "true"),
                network(NAME, "a", "1", "false"),
            ]
        };
        assert_eq!(oldest(found()).unwrap().as_deref(), Some("a"));
        assert_eq!(oldest(vec![]).unwrap(), None);
    }

    #[test]
    fn another_network_of_that_name_is_not_used() {
        let error = oldest(vec![network(NAME, "a", "1", "true")]).unwrap_err().to_string();
        assert!(error.contains("`longshore`"), "{error}");
    }
}
