import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;

/** What a program with the JDBC driver does while people decide: it waits, and goes on. In and out of a transaction. */
public final class Held {
    static void say(String text) {
        System.out.println(text);
        System.out.flush();
    }

    static long count(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement();
                ResultSet found = statement.executeQuery("select count(*) from noted")) {
            found.next();
            return found.getLong(1);
        }
    }

    public static void main(String[] arguments) throws SQLException {
        Properties with = new Properties();
        with.setProperty("user", System.getenv("PGUSER"));
        with.setProperty("password", System.getenv("PGPASSWORD"));
        with.setProperty("sslmode", "verify-full");
        with.setProperty("sslrootcert", System.getenv("PGSSLROOTCERT"));
        try (Connection connection = DriverManager.getConnection(
                "jdbc:postgresql://127.0.0.1:" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), with)) {
            try (PreparedStatement delete = connection.prepareStatement("delete from doomed where id <= ?")) {
                delete.setInt(1, 7);
                say("deleted " + delete.executeUpdate());
            }
            say("noted " + count(connection));
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.executeUpdate("insert into noted values (1000)");
                statement.executeUpdate("drop table payments_old");
                say("dropped");
                connection.commit();
            }
            say("noted " + count(connection));
            connection.commit();
            try (Statement statement = connection.createStatement()) {
                statement.executeUpdate("insert into noted values (1001)");
                statement.executeUpdate("drop table retried");
                say("dropped");
            } catch (SQLException wrong) {
                say("refused " + wrong.getSQLState());
                connection.rollback();
            }
            say("noted " + count(connection));
            connection.commit();
        }
    }
}
