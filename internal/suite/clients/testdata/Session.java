import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Types;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;

/** What a user does in a session, with snowflake-jdbc: one line for each thing. */
public class Session {
  private static Connection connection;

  public static void main(String[] args) throws Exception {
    var options = new Properties();
    options.put("account", System.getenv("SNOWFLAKE_ACCOUNT"));
    options.put("user", System.getenv("SNOWFLAKE_USER"));
    options.put("private_key_file", System.getenv("SNOWFLAKE_PRIVATE_KEY_PATH"));
    options.put("ssl", "off");
    String host = System.getenv("SNOWFLAKE_HOST") + ":" + System.getenv("SNOWFLAKE_PORT");
    connection = DriverManager.getConnection("jdbc:snowflake://" + host, options);

    try (var statement = connection.prepareStatement("SELECT ?, ?, ?, ?")) {
      statement.setInt(1, 42);
      statement.setString(2, "it's");
      statement.setNull(3, Types.VARCHAR);
      statement.setBoolean(4, true);
      say("bound there", statement.executeQuery());
    }
    ask("row", "SELECT * FROM VALUES (1, 'one', 1.25), (2, NULL, -0.25), (3, 'three', NULL)");
    ask("waited", "SELECT SYSTEM$WAIT(200, 'MILLISECONDS')");
    connection.setAutoCommit(false);
    ask("in a transaction", "SELECT 1");
    connection.commit();
    connection.rollback();
    connection.setAutoCommit(true);
    try {
      ask("no error", "SELECT * FROM missing");
    } catch (SQLException e) {
      System.out.println("error|" + e.getErrorCode() + "|" + e.getSQLState());
    }
    String before = session();
    Thread.sleep(2500); // longer than its token is valid
    System.out.println("same session|" + session().equals(before));
    connection.close();
  }

  private static String session() throws SQLException {
    try (var rows = connection.createStatement().executeQuery("SELECT current_session()")) {
      rows.next();
      return rows.getString(1);
    }
  }

  private static void ask(String name, String sql) throws SQLException {
    try (var statement = connection.createStatement()) {
      say(name, statement.executeQuery(sql));
    }
  }

  private static void say(String name, ResultSet rows) throws SQLException {
    while (rows.next()) {
      List<String> values = new ArrayList<>(List.of(name));
      for (int i = 1; i <= rows.getMetaData().getColumnCount(); i++) {
        Object value = rows.getObject(i);
        values.add(value == null ? "NULL" : value.toString());
      }
      System.out.println(String.join("|", values));
    }
  }
}
