//! Connects by the path of the key. The driver takes the PEM's text and keeps it, so read the file for each new connection.

use snowflake_connector_rs::{
    AuthConfig, CellValue, Client, ClientConfig, EndpointConfig, KeyPairConfig, Session, SessionConfig,
};
use std::{env::var, error::Error, fs};
use url::Url;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let session = connect().await?;
    let table = session.query("SELECT current_version()").await?.collect_table().await?;
    for row in table.dynamic_rows()? {
        if let CellValue::String(version) = row?.value_at(0)? {
            println!("Snowflake {version}");
        }
    }
    Ok(())
}

/// A session on the key that the sidecar has published last.
async fn connect() -> Result<Session, Box<dyn Error>> {
    let path = var("SNOWFLAKE_PRIVATE_KEY_PATH").unwrap_or("/run/snowflake/rsa_key.pem".into());
    let key = AuthConfig::key_pair(KeyPairConfig::from_pem(fs::read_to_string(path)?));
    let mut session = SessionConfig::new();
    if let Ok(role) = var("SNOWFLAKE_ROLE") {
        session = session.with_role(role);
    }
    if let Ok(warehouse) = var("SNOWFLAKE_WAREHOUSE") {
        session = session.with_warehouse(warehouse);
    }
    if let Ok(database) = var("SNOWFLAKE_DATABASE") {
        session = session.with_database(database);
    }
    if let Ok(schema) = var("SNOWFLAKE_SCHEMA") {
        session = session.with_schema(schema);
    }
    let mut config = ClientConfig::new(var("SNOWFLAKE_USER")?, var("SNOWFLAKE_ACCOUNT")?, key).with_session(session);
    if let Ok(host) = var("SNOWFLAKE_HOST") {
        let protocol = var("SNOWFLAKE_PROTOCOL").unwrap_or("https".into());
        let port = var("SNOWFLAKE_PORT").unwrap_or("443".into());
        let url = Url::parse(&format!("{protocol}://{host}:{port}"))?;
        config = config.with_endpoint(EndpointConfig::custom_base_url(url));
    }
    Ok(Client::new(config)?.create_session().await?)
}
