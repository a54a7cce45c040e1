import java.net.UnixDomainSocketAddress;
import java.nio.channels.*;
import java.security.*;
import java.security.spec.PKCS8EncodedKeySpec;
import java.sql.DriverManager;
import java.util.*;
import java.util.concurrent.*;

/** Connects with the key that the sidecar serves at a socket. Each new connection reads it again. */
class FromSocket {
  static final Map<String, String> ENV = System.getenv();
  static final String SOCKET = ENV.getOrDefault("SNOWFLAKE_PRIVATE_KEY_PATH", "/run/snowflake/rsa_key.der.sock");

  /** The newest key. It is for one connection: do not keep it. */
  static PrivateKey key() throws Exception {
    try (var channel = SocketChannel.open(UnixDomainSocketAddress.of(SOCKET))) {
      var answer = new FutureTask<>(() -> Channels.newInputStream(channel).readAllBytes());
      new Thread(answer).start();
      byte[] der = answer.get(5, TimeUnit.SECONDS); // the close of the channel ends the thread
      if (der.length == 0) throw new IllegalStateException(SOCKET + " gives no key: the sidecar's log says why");
      return KeyFactory.getInstance("RSA").generatePrivate(new PKCS8EncodedKeySpec(der));
    }
  }

  public static void main(String[] args) throws Exception {
    var options = new Properties();
    for (String name : List.of("account", "user", "role", "warehouse", "database", "schema"))
      Optional.ofNullable(ENV.get("SNOWFLAKE_" + name.toUpperCase())).ifPresent(value -> options.put(name, value));
    options.put("privateKey", key());
    options.put("ssl", ENV.getOrDefault("SNOWFLAKE_PROTOCOL", "https").equals("https") ? "on" : "off");
    String host = ENV.getOrDefault("SNOWFLAKE_HOST", ENV.get("SNOWFLAKE_ACCOUNT") + ".snowflakecomputing.com");
    String url = "jdbc:snowflake://" + host + ":" + ENV.getOrDefault("SNOWFLAKE_PORT", "443");

    try (var connection = DriverManager.getConnection(url, options);
        var row = connection.createStatement().executeQuery("SELECT current_version()")) {
      row.next();
      System.out.println("Snowflake " + row.getString(1));
    }
  }
}
