//! The list that a follower begins with, streamed or page by page.

use std::time::Duration;

use kube_ipvs_core::event::{Event, Kind};

use super::Follower;
use crate::kube::cursor::number;
use crate::kube::failure::Failure;
use crate::kube::requests::As;

impl Follower {
    /// A watch that begins with everything there is.
    pub(super) async fn streamed_list(&mut self, lasting: Duration) -> Result<(), Failure> {
        let fresh = std::mem::take(&mut self.silent);
        let lines = self
            .requests
            .streaming_list(&self.cursor.wanted(As::Newest), lasting, fresh)
            .await?;
        self.answered();
        self.list_started().await?;
        self.follow(lines, lasting, true).await
    }

    /// A list page by page, each sent on and forgotten before the next.
    pub(super) async fn paged_list(&mut self) -> Result<(), Failure> {
        let size = self.settings.page_size;
        let mut page = self
            .requests
            .first_page(size, &self.cursor.wanted(As::Cached))
            .await?;
        self.answered();
        let version = page.version().to_owned();
        self.cursor.check_age(&version)?;
        self.list_started().await?;
        loop {
            self.status.heard(self.kind());
            let next = page.next();
            for object in page.into_texts() {
                self.apply(&object, true).await?;
            }
            match next {
                Some(token) => page = self.requests.further_page(size, &token).await?,
                None => return self.list_completed(version).await,
            }
        }
    }

    /// A watch from a version that the server has not reached says nothing, and
    /// so does one where nothing happens. A server that was restored from a
    /// backup would be listened to in vain until it is as far as it was: so it
    /// is asked, as cheaply as can be, whether it has our version, and if not,
    /// which is its newest.
    pub(super) async fn check_history(&mut self) -> Result<(), Failure> {
        let Some(known) = self.cursor.known().map(str::to_owned) else {
            return Ok(());
        };
        let at_least = As::NotOlderThan(known.clone());
        let now = match self.requests.first_page(1, &at_least).await {
            Err(Failure::Refused { code: 504, .. }) => {
                self.requests.first_page(1, &As::Newest).await
            }
            answer => answer,
        };
        let now = now?.version().to_owned();
        self.answered();
        if number(&now) < number(&known) {
            return Err(Failure::Back { known, now });
        }
        Ok(())
    }

    pub(super) async fn list_started(&mut self) -> Result<(), Failure> {
        self.seen.list_started();
        self.listed = 0;
        self.send(Event::ListStarted(self.kind())).await
    }

    pub(super) async fn list_completed(&mut self, version: String) -> Result<(), Failure> {
        self.cursor.check_age(&version)?;
        self.seen.list_completed();
        self.send(Event::ListCompleted(self.kind())).await?;
        self.cursor.listed(version);
        self.doubt = false;
        self.update(|status| {
            status.listed = true;
            status.lists += 1;
            status.failure = None;
        });
        if self.kind() == Kind::Node {
            self.node_is_known(self.listed > 0);
        }
        tracing::debug!(kind = %self.kind(), objects = self.listed, "listed");
        Ok(())
    }
}
