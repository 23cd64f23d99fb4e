//! Users, teams, roles and the audit.

use async_trait::async_trait;
use longshore_core::access::Grant;
use longshore_core::id::GrantId;
use longshore_core::time::Timestamp;

use super::column::{opt_micros, opt_text, opt_time, parsed, text, time, word, wrong};
use super::conn::Conn;
use super::db::{Db, Row, query};
use super::deployments::event_row;
use crate::store::Error;
use crate::store::people::{AuditFilter, GrantRow, People, Subject, TeamRow, UserRow};
use crate::store::rows::EventRow;

type Result<T> = std::result::Result<T, Error>;

#[async_trait]
impl People for Conn<'_> {
    async fn insert_user(&mut self, row: &UserRow) -> Result<()> {
        let done = insert_user(self.connection(), row);
        self.note(done)
    }
    async fn user(&mut self, name: &str) -> Result<Option<UserRow>> {
        let done = user(self.connection(), name);
        self.note(done)
    }
    async fn users(&mut self) -> Result<Vec<UserRow>> {
        let done = users(self.connection());
        self.note(done)
    }
    async fn disable_user(&mut self, name: &str, at: Option<Timestamp>) -> Result<()> {
        let done = disable_user(self.connection(), name, at);
        self.note(done)
    }
    async fn insert_team(&mut self, name: &str, at: Timestamp) -> Result<()> {
        let done = insert_team(self.connection(), name, at);
        self.note(done)
    }
    async fn team(&mut self, name: &str) -> Result<Option<TeamRow>> {
        let done = team(self.connection(), name);
        self.note(done)
    }
    async fn teams(&mut self) -> Result<Vec<TeamRow>> {
        let done = teams(self.connection());
        self.note(done)
    }
    async fn teams_of(&mut self, user: &str) -> Result<Vec<String>> {
        let done = teams_of(self.connection(), user);
        self.note(done)
    }
    async fn insert_member(&mut self, team: &str, user: &str, at: Timestamp) -> Result<bool> {
        let done = insert_member(self.connection(), team, user, at);
        self.note(done)
    }
    async fn remove_member(&mut self, team: &str, user: &str) -> Result<bool> {
        let done = remove_member(self.connection(), team, user);
        self.note(done)
    }
    async fn insert_grant(&mut self, row: &GrantRow) -> Result<()> {
        let done = insert_grant(self.connection(), row);
        self.note(done)
    }
    async fn grant(&mut self, id: GrantId) -> Result<Option<GrantRow>> {
        let done = grant(self.connection(), id);
        self.note(done)
    }
    async fn grants(&mut self) -> Result<Vec<GrantRow>> {
        let done = grants(self.connection());
        self.note(done)
    }
    async fn grants_of(&mut self, user: &str) -> Result<Vec<Grant>> {
        let done = grants_of(self.connection(), user);
        self.note(done)
    }
    async fn remove_grant(&mut self, id: GrantId) -> Result<bool> {
        let done = remove_grant(self.connection(), id);
        self.note(done)
    }
    async fn audit(&mut self, filter: &AuditFilter) -> Result<Vec<EventRow>> {
        let done = audit(self.connection(), filter);
        self.note(done)
    }
}

fn user_row(row: &Row) -> Result<UserRow> {
    Ok(UserRow {
        name: text(row, "name")?,
        kind: word(row, "kind")?,
        created_at: time(row, "created_at")?,
        disabled_at: opt_time(row, "disabled_at")?,
    })
}

fn insert_user(c: &Db, row: &UserRow) -> Result<()> {
    query("INSERT INTO user (name, kind, created_at, disabled_at) VALUES ($1, $2, $3, $4)")
        .bind(&row.name)
        .bind(row.kind.as_str())
        .bind(row.created_at.as_micros())
        .bind(opt_micros(row.disabled_at))
        .execute(c)?;
    Ok(())
}

fn user(c: &Db, name: &str) -> Result<Option<UserRow>> {
    let row = query("SELECT * FROM user WHERE name = $1").bind(name).fetch_optional(c)?;
    row.as_ref().map(user_row).transpose()
}

fn users(c: &Db) -> Result<Vec<UserRow>> {
    query("SELECT * FROM user ORDER BY name").fetch_all(c)?.iter().map(user_row).collect()
}

fn disable_user(c: &Db, name: &str, at: Option<Timestamp>) -> Result<()> {
    query("UPDATE user SET disabled_at = $2 WHERE name = $1").bind(name).bind(opt_micros(at)).execute(c)?;
    Ok(())
}

fn insert_team(c: &Db, name: &str, at: Timestamp) -> Result<()> {
    query("INSERT INTO team (name, created_at) VALUES ($1, $2)").bind(name).bind(at.as_micros()).execute(c)?;
    Ok(())
}

fn members(c: &Db, team: &str) -> Result<Vec<String>> {
    let rows = query("SELECT user FROM team_member WHERE team = $1 ORDER BY user").bind(team).fetch_all(c)?;
    rows.iter().map(|row| text(row, "user")).collect()
}

fn team(c: &Db, name: &str) -> Result<Option<TeamRow>> {
    let row = query("SELECT * FROM team WHERE name = $1").bind(name).fetch_optional(c)?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(TeamRow { name: text(&row, "name")?, created_at: time(&row, "created_at")?, members: members(c, name)? }))
}

fn teams(c: &Db) -> Result<Vec<TeamRow>> {
    let mut teams = Vec::new();
    for row in query("SELECT * FROM team ORDER BY name").fetch_all(c)? {
        let name = text(&row, "name")?;
        let members = members(c, &name)?;
        teams.push(TeamRow { name, created_at: time(&row, "created_at")?, members });
    }
    Ok(teams)
}

fn teams_of(c: &Db, user: &str) -> Result<Vec<String>> {
    let rows = query("SELECT team FROM team_member WHERE user = $1 ORDER BY team").bind(user).fetch_all(c)?;
    rows.iter().map(|row| text(row, "team")).collect()
}

fn insert_member(c: &Db, team: &str, user: &str, at: Timestamp) -> Result<bool> {
    let done = query("INSERT INTO team_member (team, user, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
        .bind(team)
        .bind(user)
        .bind(at.as_micros())
        .execute(c)?;
    Ok(done.rows_affected() == 1)
}

fn remove_member(c: &Db, team: &str, user: &str) -> Result<bool> {
    let done = query("DELETE FROM team_member WHERE team = $1 AND user = $2").bind(team).bind(user).execute(c)?;
    Ok(done.rows_affected() == 1)
}

fn held(row: &Row) -> Result<Grant> {
    Ok(Grant {
        role: word(row, "role")?,
        project: opt_text(row, "project")?,
        environment: opt_text(row, "environment")?,
    })
}

fn grant_row(row: &Row) -> Result<GrantRow> {
    let subject = match (opt_text(row, "user")?, opt_text(row, "team")?) {
        (Some(user), None) => Subject::User(user),
        (None, Some(team)) => Subject::Team(team),
        _ => return Err(wrong("user", "neither a user nor a team, or both")),
    };
    Ok(GrantRow {
        id: parsed(row, "id")?,
        subject,
        grant: held(row)?,
        created_at: time(row, "created_at")?,
        created_by: text(row, "created_by")?,
    })
}

fn insert_grant(c: &Db, row: &GrantRow) -> Result<()> {
    let (user, team) = match &row.subject {
        Subject::User(user) => (Some(user), None),
        Subject::Team(team) => (None, Some(team)),
    };
    query(
        "INSERT INTO role_grant (id, user, team, role, project, environment, created_at, created_by) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(row.id.to_string())
    .bind(user)
    .bind(team)
    .bind(row.grant.role.as_str())
    .bind(&row.grant.project)
    .bind(&row.grant.environment)
    .bind(row.created_at.as_micros())
    .bind(&row.created_by)
    .execute(c)?;
    Ok(())
}

fn grant(c: &Db, id: GrantId) -> Result<Option<GrantRow>> {
    let row = query("SELECT * FROM role_grant WHERE id = $1").bind(id.to_string()).fetch_optional(c)?;
    row.as_ref().map(grant_row).transpose()
}

fn grants(c: &Db) -> Result<Vec<GrantRow>> {
    query("SELECT * FROM role_grant ORDER BY id").fetch_all(c)?.iter().map(grant_row).collect()
}

fn grants_of(c: &Db, user: &str) -> Result<Vec<Grant>> {
    let rows = query(
        "SELECT role, project, environment FROM role_grant \
         WHERE user = $1 OR team IN (SELECT team FROM team_member WHERE user = $1) ORDER BY id",
    )
    .bind(user)
    .fetch_all(c)?;
    rows.iter().map(held).collect()
}

fn remove_grant(c: &Db, id: GrantId) -> Result<bool> {
    let done = query("DELETE FROM role_grant WHERE id = $1").bind(id.to_string()).execute(c)?;
    Ok(done.rows_affected() == 1)
}

fn audit(c: &Db, filter: &AuditFilter) -> Result<Vec<EventRow>> {
    let since = filter.since.map_or(i64::MIN, Timestamp::as_micros);
    let (at, id) = filter.after.map_or((i64::MIN, i64::MIN), |(at, id)| (at.as_micros(), id));
    let rows = query("SELECT * FROM event WHERE at >= $1 AND (at, id) > ($2, $3) ORDER BY at, id LIMIT $4")
        .bind(since)
        .bind(at)
        .bind(id)
        .bind(i64::from(filter.limit))
        .fetch_all(c)?;
    rows.iter().map(event_row).collect()
}
