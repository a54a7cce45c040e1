import java.sql.DriverManager;
import java.util.*;

/** Connects by the path of the key. The driver reads the file for each new connection. */
class ByPath {
  static final Map<String, String> ENV = System.getenv();

  public static void main(String[] args) throws Exception {
    var options = new Properties();
    for (String name : List.of("account", "user", "role", "warehouse", "database", "schema"))
      Optional.ofNullable(ENV.get("SNOWFLAKE_" + name.toUpperCase())).ifPresent(value -> options.put(name, value));
    options.put("private_key_file", ENV.getOrDefault("SNOWFLAKE_PRIVATE_KEY_PATH", "/run/snowflake/rsa_key.pem"));
    options.put("ssl", ENV.getOrDefault("SNOWFLAKE_PROTOCOL", "https").equals("https") ? "on" : "off");
    String account = ENV.get("SNOWFLAKE_ACCOUNT").strip().replaceFirst("^[a-z:]+://", "").replaceFirst("[/?:].*", "");
    String domain = account.contains(".snowflakecomputing.") ? "" : ".snowflakecomputing." + (account.contains(".cn-") ? "cn" : "com");
    String host = ENV.getOrDefault("SNOWFLAKE_HOST", account + domain);
    if (!ENV.containsKey("SNOWFLAKE_HOST")) options.remove("account"); // the driver takes it from the host
    String url = "jdbc:snowflake://" + host + ":" + ENV.getOrDefault("SNOWFLAKE_PORT", "443");

    try (var connection = DriverManager.getConnection(url, options);
        var row = connection.createStatement().executeQuery("SELECT current_version()")) {
      row.next();
      System.out.println("Snowflake " + row.getString(1));
    }
  }
}
