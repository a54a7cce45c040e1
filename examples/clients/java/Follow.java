import java.nio.file.*;
import java.security.*;
import java.security.interfaces.RSAPrivateCrtKey;
import java.security.spec.*;
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;

/** Asks Snowflake for its version again and again, over a connection that follows the key file. Before
 * each use it compares the file with the connection's key: it logs in with a new key first, and only then closes
 * the old connection. While Snowflake refuses the new key, because it is not assigned yet, the old one serves. */
public class Follow {
  static final Map<String, String> ENV = System.getenv();
  static final String KEY_FILE = ENV.getOrDefault("SNOWFLAKE_PRIVATE_KEY_PATH", "/run/snowflake/rsa_key.pem");
  static final long RETRY = 10_000; // milliseconds until a key that did not log in is tried again

  private String key;
  private Connection connection;
  private long retryAt;

  /** The connection on the newest key that Snowflake accepts. Get it anew for each use. */
  Connection get() throws Exception {
    try {
      if (System.currentTimeMillis() >= retryAt) follow();
    } catch (Exception e) {
      if (connection == null) throw e;
      retryAt = System.currentTimeMillis() + RETRY;
      System.out.println("staying on the old key: " + e.getMessage());
    }
    return connection;
  }

  private void follow() throws Exception {
    String newest = Files.readString(Path.of(KEY_FILE));
    if (newest.equals(key)) return;
    var options = new Properties();
    for (String name : List.of("account", "user", "role", "warehouse", "database", "schema"))
      Optional.ofNullable(ENV.get("SNOWFLAKE_" + name.toUpperCase())).ifPresent(value -> options.put(name, value));
    options.put("private_key_file", KEY_FILE);
    options.put("ssl", ENV.getOrDefault("SNOWFLAKE_PROTOCOL", "https").equals("https") ? "on" : "off");
    String account = ENV.get("SNOWFLAKE_ACCOUNT").strip().replaceFirst("^[a-z:]+://", "").replaceFirst("[/?:].*", "");
    String domain = account.contains(".snowflakecomputing.") ? "" : ".snowflakecomputing." + (account.contains(".cn-") ? "cn" : "com");
    String host = ENV.getOrDefault("SNOWFLAKE_HOST", account + domain);
    if (!ENV.containsKey("SNOWFLAKE_HOST")) options.remove("account"); // the driver takes it from the host
    var old = connection;
    connection = DriverManager.getConnection("jdbc:snowflake://" + host + ":" + ENV.getOrDefault("SNOWFLAKE_PORT", "443"), options);
    key = newest;
    System.out.println("logged in with " + fingerprint(key));
    if (old != null) old.close();
  }

  /** What DESC USER shows of the key's public half. */
  static String fingerprint(String pem) throws Exception {
    byte[] der = Base64.getMimeDecoder().decode(pem.replaceAll("-----.*-----", ""));
    var rsa = KeyFactory.getInstance("RSA");
    var key = (RSAPrivateCrtKey) rsa.generatePrivate(new PKCS8EncodedKeySpec(der));
    byte[] spki = rsa.generatePublic(new RSAPublicKeySpec(key.getModulus(), key.getPublicExponent())).getEncoded();
    return "SHA256:" + Base64.getEncoder().encodeToString(MessageDigest.getInstance("SHA-256").digest(spki));
  }

  public static void main(String[] args) throws Exception {
    long interval = (long) (1000 * Double.parseDouble(ENV.getOrDefault("INTERVAL", "5"))); // between queries
    var follower = new Follow();
    var main = Thread.currentThread();
    var stop = new CountDownLatch(1);
    var end = new FutureTask<>(() -> { stop.countDown(); main.join(); return null; });
    Runtime.getRuntime().addShutdownHook(new Thread(end)); // starts at SIGTERM; Java ends when it does
    do {
      try (var rows = follower.get().createStatement().executeQuery("SELECT current_version()")) {
        rows.next();
        System.out.println("Snowflake " + rows.getString(1) + " on " + fingerprint(follower.key));
      } catch (Exception e) {
        System.out.println("no answer: " + e.getMessage());
        follower.key = null; // the session may be gone: log in again
      }
    } while (!stop.await(interval, TimeUnit.MILLISECONDS));
    if (follower.connection != null) follower.connection.close();
  }
}
