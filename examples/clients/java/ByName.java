import java.sql.DriverManager;

/**
 * Connects by name: the sidecar's connections.toml has the account, the user and the path of the key.
 * Set SNOWFLAKE_HOME=/run/snowflake, and nothing else.
 */
class ByName {
  public static void main(String[] args) throws Exception {
    try (var connection = DriverManager.getConnection("jdbc:snowflake:auto");
        var row = connection.createStatement().executeQuery("SELECT current_version()")) {
      row.next();
      System.out.println("Snowflake " + row.getString(1));
    }
  }
}
