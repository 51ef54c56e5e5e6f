//! The two requests of a source: a page of a list, and a watch.

use std::time::Duration;

use ::kube::Client;
use ::kube::client::Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use kube_ipvs_core::regarding::Uid;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::connect::OnFreshConnection;
use super::failure::Failure;
use super::lines::Lines;
use super::resources::Resource;

/// Objects a page, of a list that is read whole at once.
const PAGE: u32 = 500;
/// Time for an answer to begin, and for a page to be read.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// One page of a list.
#[derive(Debug, Deserialize)]
pub struct Page {
    metadata: PageMeta,
    /// The objects, as they were sent; `null` is none.
    items: Option<Vec<Box<RawValue>>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    r#continue: Option<String>,
}

impl Page {
    pub fn version(&self) -> &str {
        &self.metadata.resource_version
    }

    /// The token for the next page; none at the last one.
    pub fn next(&self) -> Option<String> {
        self.metadata
            .r#continue
            .clone()
            .filter(|token| !token.is_empty())
    }

    /// The text of each object.
    pub(super) fn into_texts(self) -> impl Iterator<Item = Box<RawValue>> {
        self.items.unwrap_or_default().into_iter()
    }

    /// Each object as a tree.
    pub fn into_items(self) -> impl Iterator<Item = Result<Value, Failure>> {
        self.into_texts().map(|text| tree(&text))
    }
}

/// The whole of what was sent.
///
/// # Errors
/// It makes no tree: nested too deep, say.
pub(super) fn tree(text: &RawValue) -> Result<Value, Failure> {
    serde_json::from_str(text.get()).map_err(|error| Failure::Nonsense(format!("object: {error}")))
}

/// What an object is called, whatever else it holds and however deep that is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) resource_version: String,
    pub(super) uid: Option<Uid>,
}

impl Identity {
    /// Of an object's text.
    ///
    /// # Errors
    /// It has none.
    pub(super) fn of(text: &RawValue) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Named<'a> {
            #[serde(borrow)]
            metadata: Metadata<'a>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata<'a> {
            namespace: Option<String>,
            name: String,
            resource_version: Option<String>,
            /// Of any type: an object has a name without it.
            #[serde(borrow)]
            uid: Option<&'a RawValue>,
        }
        let named: Named<'_> = serde_json::from_str(text.get())
            .map_err(|error| Failure::Nonsense(format!("metadata of an object: {error}")))?;
        let uid = named.metadata.uid.map(RawValue::get);
        let uid: Option<String> = uid.and_then(|text| serde_json::from_str(text).ok());
        Ok(Self {
            namespace: named.metadata.namespace.unwrap_or_default(),
            name: named.metadata.name,
            resource_version: named.metadata.resource_version.unwrap_or_default(),
            uid: uid.as_deref().and_then(Uid::read),
        })
    }
}

/// How a list is to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum As {
    /// From the server's cache, however old.
    Cached,
    /// Not older than a version.
    NotOlderThan(String),
    /// As of now.
    Newest,
}

impl As {
    /// `resourceVersion` and `resourceVersionMatch`.
    fn parameters(&self) -> [(&str, &str); 2] {
        let (version, matching) = match self {
            Self::Cached => ("0", ""),
            Self::NotOlderThan(version) => (version.as_str(), "NotOlderThan"),
            Self::Newest => ("", ""),
        };
        [
            ("resourceVersion", version),
            ("resourceVersionMatch", matching),
        ]
    }
}

/// Lists and watches one resource.
pub struct Requests {
    client: Client,
    resource: Resource,
}

impl Requests {
    /// Asks for `resource` by `client`.
    pub fn new(client: Client, resource: Resource) -> Self {
        Self { client, resource }
    }

    pub(super) fn resource(&self) -> &Resource {
        &self.resource
    }

    /// The first page of a list.
    pub async fn first_page(&self, limit: u32, version: &As) -> Result<Page, Failure> {
        let [at, matching] = version.parameters();
        self.page(&[("limit", &limit.to_string()), at, matching])
            .await
    }

    /// Every object of a list out of the server's cache, page by page, each as a
    /// tree.
    ///
    /// # Errors
    /// When a page cannot be had or read; what came before it was given.
    pub async fn each(&self, mut take: impl FnMut(&Value)) -> Result<(), Failure> {
        let mut page = self.first_page(PAGE, &As::Cached).await?;
        loop {
            let next = page.next();
            for object in page.into_items() {
                take(&object?);
            }
            match next {
                Some(token) => page = self.further_page(PAGE, &token).await?,
                None => return Ok(()),
            }
        }
    }

    /// A further page.
    pub(super) async fn further_page(&self, limit: u32, token: &str) -> Result<Page, Failure> {
        self.page(&[("limit", &limit.to_string()), ("continue", token)])
            .await
    }

    async fn page(&self, parameters: &[(&str, &str)]) -> Result<Page, Failure> {
        let answer = self.answer(self.resource.request(parameters)).await?;
        let body = in_time(answer.into_body().collect()).await??.to_bytes();
        serde_json::from_slice(&body).map_err(|error| Failure::Nonsense(format!("list: {error}")))
    }

    /// A watch from a version on.
    pub(super) async fn watch(
        &self,
        version: &str,
        lasting: Duration,
        fresh: bool,
    ) -> Result<Lines, Failure> {
        let seconds = lasting.as_secs().max(1).to_string();
        self.lines(
            &[
                ("watch", "true"),
                ("allowWatchBookmarks", "true"),
                ("timeoutSeconds", &seconds),
                ("resourceVersion", version),
            ],
            fresh,
        )
        .await
    }

    /// A watch that begins with everything there is.
    pub(super) async fn streaming_list(
        &self,
        version: &As,
        lasting: Duration,
        fresh: bool,
    ) -> Result<Lines, Failure> {
        let seconds = lasting.as_secs().max(1).to_string();
        let [at, _] = version.parameters();
        let answer = self
            .lines(
                &[
                    ("watch", "true"),
                    ("allowWatchBookmarks", "true"),
                    ("timeoutSeconds", &seconds),
                    ("sendInitialEvents", "true"),
                    ("resourceVersionMatch", "NotOlderThan"),
                    at,
                ],
                fresh,
            )
            .await;
        match answer {
            Err(Failure::Refused {
                code: 400 | 422,
                message,
                ..
            }) => Err(Failure::NoStreaming(message)),
            other => other,
        }
    }

    async fn lines(&self, parameters: &[(&str, &str)], fresh: bool) -> Result<Lines, Failure> {
        let mut request = self.resource.request(parameters);
        if fresh {
            request.extensions_mut().insert(OnFreshConnection);
        }
        Ok(Lines::new(self.answer(request).await?.into_body()))
    }

    async fn answer(&self, request: Request<Vec<u8>>) -> Result<Response<Body>, Failure> {
        answer(&self.client, request).await
    }
}

/// Sends a request; an answer that is no success is a failure.
pub async fn answer(
    client: &Client,
    mut request: Request<Vec<u8>>,
) -> Result<Response<Body>, Failure> {
    let json = http::HeaderValue::from_static("application/json");
    request.headers_mut().insert(http::header::ACCEPT, json);
    let answer = in_time(client.send(request.map(Body::from))).await??;
    let (code, headers) = (answer.status(), answer.headers().clone());
    if code.is_success() {
        return Ok(answer);
    }
    let body = in_time(answer.into_body().collect())
        .await?
        .map_or(Bytes::new(), |body| body.to_bytes());
    Err(Failure::from_answer(code.as_u16(), &headers, &body))
}

async fn in_time<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    timeout(ANSWER_TIMEOUT, work)
        .await
        .map_err(|_| Failure::Silent(ANSWER_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_called_the_same_however_deep_it_is() {
        let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
        let text = format!(
            r#"{{"x": {deep}, "y": 1e999, "metadata": {{"name": "w\u0065b", "namespace": "a", "resourceVersion": "7"}}}}"#
        );
        let text = RawValue::from_string(text).expect("JSON");
        assert!(tree(&text).is_err(), "no tree is made of it");
        let named = Identity::of(&text).expect("it has a name");
        let whole = (&*named.namespace, &*named.name, &*named.resource_version);
        assert_eq!(whole, ("a", "web", "7"));
        assert_eq!(named.uid, None);
        for (uid, read) in [
            ("\"5d1c2d9a-0000-4000-8000-000000004711\"", true),
            ("\"1\"", false),
            (&*deep, false),
            ("7", false),
            ("null", false),
        ] {
            let text = format!(r#"{{"metadata": {{"name": "web", "uid": {uid}}}}}"#);
            let text = RawValue::from_string(text).expect("JSON");
            let named = Identity::of(&text).expect("it has a name");
            assert_eq!((&*named.name, named.uid.is_some()), ("web", read), "{uid}");
        }
        let nameless = RawValue::from_string("{}".to_owned()).expect("JSON");
        assert!(Identity::of(&nameless).is_err());
    }
}
