import com.zaxxer.hikari.*;
import java.util.*;

/** Connects by the path of the key, in a pool. The driver reads the file for each connection that the pool opens. */
class Pool {
  static final Map<String, String> ENV = System.getenv();

  public static void main(String[] args) throws Exception {
    var config = new HikariConfig();
    for (String name : List.of("account", "user", "role", "warehouse", "database", "schema"))
      Optional.ofNullable(ENV.get("SNOWFLAKE_" + name.toUpperCase())).ifPresent(value -> config.addDataSourceProperty(name, value));
    config.addDataSourceProperty("private_key_file", ENV.getOrDefault("SNOWFLAKE_PRIVATE_KEY_PATH", "/run/snowflake/rsa_key.pem"));
    config.addDataSourceProperty("ssl", ENV.getOrDefault("SNOWFLAKE_PROTOCOL", "https").equals("https") ? "on" : "off");
    String account = ENV.get("SNOWFLAKE_ACCOUNT").strip().replaceFirst("^[a-z:]+://", "").replaceFirst("[/?:].*", "");
    String domain = account.contains(".snowflakecomputing.") ? "" : ".snowflakecomputing." + (account.contains(".cn-") ? "cn" : "com");
    String host = ENV.getOrDefault("SNOWFLAKE_HOST", account + domain);
    if (!ENV.containsKey("SNOWFLAKE_HOST")) config.getDataSourceProperties().remove("account"); // the driver takes it from the host
    config.setJdbcUrl("jdbc:snowflake://" + host + ":" + ENV.getOrDefault("SNOWFLAKE_PORT", "443"));

    try (var pool = new HikariDataSource(config);
        var connection = pool.getConnection();
        var row = connection.createStatement().executeQuery("SELECT current_version()")) {
      row.next();
      System.out.println("Snowflake " + row.getString(1));
    }
  }
}
