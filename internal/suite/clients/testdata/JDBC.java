import java.sql.Connection;
import java.sql.DriverManager;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.Scanner;

/**
 * For each number it opens that many connections at the same time, asks each about its session, and closes them.
 * It connects by name if SNOWFLAKE_HOME is set, and else by path.
 */
class JDBC {
  static final String QUERY =
      "SELECT current_version(), current_role(), current_warehouse(), current_database(), current_schema()";

  public static void main(String[] args) throws Exception {
    for (var numbers = new Scanner(System.in); numbers.hasNextInt(); ) {
      List<Connection> open = new ArrayList<>();
      for (int n = numbers.nextInt(); n > 0; n--) open.add(connect());
      for (var connection : open) {
        var row = connection.createStatement().executeQuery(QUERY);
        row.next();
        System.out.printf("%s,%s,%s,%s,%s%n",
            row.getString(1), row.getString(2), row.getString(3), row.getString(4), row.getString(5));
      }
      for (var connection : open) connection.close();
    }
  }

  static Connection connect() throws Exception {
    var env = System.getenv();
    if (env.containsKey("SNOWFLAKE_HOME")) return DriverManager.getConnection("jdbc:snowflake:auto");
    var options = new Properties();
    for (String name : List.of("account", "user", "role", "warehouse", "database", "schema"))
      options.put(name, env.get("SNOWFLAKE_" + name.toUpperCase()));
    options.put("private_key_file", env.get("SNOWFLAKE_PRIVATE_KEY_PATH"));
    options.put("ssl", env.get("SNOWFLAKE_PROTOCOL").equals("https") ? "on" : "off");
    return DriverManager.getConnection(
        "jdbc:snowflake://" + env.get("SNOWFLAKE_HOST") + ":" + env.get("SNOWFLAKE_PORT"), options);
  }
}
