import java.sql.DriverManager;

/** Connects without account, user or key. SNOWFLAKE_HOME says where the connection is. */
class ByName {
    public static void main(String[] args) throws Exception {
        var query = "SELECT current_version(), current_role(), current_warehouse(), current_database(), current_schema()";
        try (var connection = DriverManager.getConnection("jdbc:snowflake:auto");
                var row = connection.createStatement().executeQuery(query)) {
            row.next();
            System.out.printf("%s,%s,%s,%s,%s%n",
                    row.getString(1), row.getString(2), row.getString(3), row.getString(4), row.getString(5));
        }
    }
}
