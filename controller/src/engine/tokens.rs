//! Bearer tokens: who one speaks for, how they are made and taken back. Only the hash of a token is ever here.

use longshore_core::access::{Grant, narrow};
use longshore_core::id::TokenId;
use longshore_core::time::Timestamp;
use serde_json::json;

use super::accounts::{Administered, known_place, user};
use super::view::TokenView;
use super::{Actor, Engine, Error, Result};
use crate::store::rows::TokenRow;

/// A token that is to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// The user it speaks for.
    pub user: String,
    /// When it ends; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// All that it may do of what the user may; `None`: all of it.
    pub limit: Option<Grant>,
}

/// Whether a token is neither taken back nor past its end.
pub(super) fn counts(row: &TokenRow, now: Timestamp) -> bool {
    row.revoked_at.is_none() && row.expires_at.is_none_or(|end| end > now)
}

impl Engine {
    /// Who a bearer token speaks for; `None` for one that is not known, has ended or was taken back, and for a disabled user.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn authenticate(&self, hash: &[u8]) -> Result<Option<Actor>> {
        let (hash, now) = (hash.to_vec(), self.clock().now());
        self.read(move |tx| {
            Box::pin(async move {
                let Some(token) = tx.token(&hash).await?.filter(|row| counts(row, now)) else { return Ok(None) };
                let user = tx.user(&token.user).await?;
                let Some(user) = user.filter(|user| user.disabled_at.is_none()) else { return Ok(None) };
                let (grants, teams) = (tx.grants_of(&user.name).await?, tx.teams_of(&user.name).await?);
                let grants = match &token.limit {
                    Some(limit) => narrow(&grants, limit),
                    None => grants,
                };
                Ok(Some(Actor { user: user.name, grants, teams, limit: token.limit }))
            })
        })
        .await
    }

    /// Records a bearer token by the SHA-256 of its text.
    ///
    /// # Errors
    /// When there is no such user, project or environment, or the user is disabled.
    pub async fn add_token(&self, new: NewToken, hash: &[u8], by: &str) -> Result<TokenView> {
        let (id, created_at) = (self.clock().token_id(), self.clock().now());
        let NewToken { user: name, expires_at, limit } = new;
        let hash = hash.to_vec();
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                let user = user(tx, &name).await?;
                if user.disabled_at.is_some() {
                    let message = format!("user `{name}` is disabled; no token was made");
                    return Err(Error::conflict("disabled", message, format!("`longshore user enable {name}` first")));
                }
                if let Some(limit) = &limit {
                    known_place(tx, limit).await?;
                }
                let row =
                    TokenRow { id, name: name.clone(), user: name, limit, created_at, expires_at, revoked_at: None };
                tx.insert_token(&row, &hash).await?;
                let view = TokenView::of(&row);
                let detail = json!({ "user": view.user, "expires_at": view.expires_at, "limit": view.limit });
                cx.audit(tx, "token.created", format!("token/{id}"), detail).await?;
                Ok(view)
            })
        })
        .await
    }

    /// All tokens that were not taken back, oldest first.
    ///
    /// # Errors
    /// When rows cannot be read.
    pub async fn tokens(&self) -> Result<Vec<TokenView>> {
        let rows = self.read(|tx| Box::pin(async move { Ok(tx.tokens().await?) })).await?;
        Ok(rows.iter().filter(|row| row.revoked_at.is_none()).map(TokenView::of).collect())
    }

    /// Takes a token back; one that was taken back stays so.
    ///
    /// # Errors
    /// When there is none, or nobody could administer the server any more.
    pub async fn revoke_token(&self, id: TokenId, by: &str) -> Result<()> {
        self.change(by, move |tx, cx| {
            Box::pin(async move {
                let row = tx.tokens().await?.into_iter().find(|row| row.id == id);
                let row = row.ok_or_else(|| Error::not_found("token", &id))?;
                let before = Administered::now(tx, cx.now).await?;
                if tx.revoke_token(id, cx.now).await? {
                    before.stays(tx, cx.now).await?;
                    cx.audit(tx, "token.revoked", format!("token/{id}"), json!({ "user": row.user })).await?;
                }
                Ok(())
            })
        })
        .await
    }
}
