import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.util.ArrayList;
import java.util.List;
import java.util.Scanner;

/**
 * For each number it takes that many connections at the same time from a pool, asks each about its session, and gives
 * them back. The pool connects by name if SNOWFLAKE_HOME is set, and else by path.
 */
class Hikari {
  static final String QUERY =
      "SELECT current_version(), current_role(), current_warehouse(), current_database(), current_schema()";

  public static void main(String[] args) throws Exception {
    try (var pool = new HikariDataSource(config())) {
      for (var numbers = new Scanner(System.in); numbers.hasNextInt(); ) {
        List<Connection> taken = new ArrayList<>();
        for (int n = numbers.nextInt(); n > 0; n--) taken.add(pool.getConnection());
        for (var connection : taken) {
          var row = connection.createStatement().executeQuery(QUERY);
          row.next();
          System.out.printf("%s,%s,%s,%s,%s%n",
              row.getString(1), row.getString(2), row.getString(3), row.getString(4), row.getString(5));
        }
        for (var connection : taken) connection.close();
      }
    }
  }

  static HikariConfig config() {
    var env = System.getenv();
    var config = new HikariConfig();
    config.setMinimumIdle(0); // it opens connections only when they are taken
    if (env.containsKey("SNOWFLAKE_HOME")) {
      config.setJdbcUrl("jdbc:snowflake:auto");
      return config;
    }
    config.setJdbcUrl("jdbc:snowflake://" + env.get("SNOWFLAKE_HOST") + ":" + env.get("SNOWFLAKE_PORT"));
    for (String name : List.of("account", "user", "role", "warehouse", "database", "schema"))
      config.addDataSourceProperty(name, env.get("SNOWFLAKE_" + name.toUpperCase()));
    config.addDataSourceProperty("private_key_file", env.get("SNOWFLAKE_PRIVATE_KEY_PATH"));
    config.addDataSourceProperty("ssl", env.get("SNOWFLAKE_PROTOCOL").equals("https") ? "on" : "off");
    return config;
  }
}
