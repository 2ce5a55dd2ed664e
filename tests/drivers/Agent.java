import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Properties;
import java.util.TreeSet;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

/** What a program with the JDBC driver does: every way to ask and to fetch. Prints one JSON array a line,
 *  [step, value]; the test runs it past the gateway and through it and compares. */
public final class Agent {
    static final String PAN = "4111111111111111";
    static final String COLUMNS = "id, t, v, c, n, d, f, m::text, j, jb, b, ta, na, x, e, u, ok, r::text";
    static final String QUERY = "select " + COLUMNS + " from cards where id <= ? order by id";

    /** A value that goes into the JSON as it is. */
    record Raw(String json) {}

    static Raw tagged(String tag, Object value) {
        return new Raw("{\"" + tag + "\": " + json(String.valueOf(value)) + "}");
    }

    static String json(Object value) {
        if (value == null) return "null";
        if (value instanceof Raw raw) return raw.json();
        if (value instanceof Integer || value instanceof Long || value instanceof Boolean) return value.toString();
        if (value instanceof Double || value instanceof BigDecimal) return tagged("number", plain(value)).json();
        if (value instanceof byte[] bytes) return tagged("hex", HexFormat.of().formatHex(bytes)).json();
        if (value instanceof Object[] items) return json(Arrays.asList(items));
        if (value instanceof Iterable<?> items) {
            StringBuilder out = new StringBuilder("[");
            for (Object item : items) out.append(out.length() > 1 ? ", " : "").append(json(item));
            return out.append("]").toString();
        }
        StringBuilder out = new StringBuilder("\"");
        for (char c : value.toString().toCharArray()) {
            if (c == '"' || c == '\\') out.append('\\').append(c);
            else if (c < 0x20 || c > 0x7e) out.append(String.format("\\u%04x", (int) c));
            else out.append(c);
        }
        return out.append('"').toString();
    }

    static String plain(Object value) {
        return value instanceof Double d ? new BigDecimal(d).toPlainString() : ((BigDecimal) value).toPlainString();
    }

    static void say(String step, Object value) {
        System.out.println("[" + json(step) + ", " + json(value) + "]");
    }

    static Connection connect(String... more) throws SQLException {
        Properties with = new Properties();
        with.setProperty("user", System.getenv("PGUSER"));
        with.setProperty("password", System.getenv("PGPASSWORD"));
        with.setProperty("sslmode", "verify-full");
        with.setProperty("sslrootcert", System.getenv("PGSSLROOTCERT"));
        for (int i = 0; i < more.length; i += 2) with.setProperty(more[i], more[i + 1]);
        return DriverManager.getConnection(
            "jdbc:postgresql://127.0.0.1:" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), with);
    }

    static List<Object> rows(ResultSet found) throws SQLException {
        List<Object> rows = new ArrayList<>();
        while (found.next()) {
            List<Object> row = new ArrayList<>(List.of(found.getInt("id"), found.getString("t"), found.getString("v"),
                found.getString("c"), found.getLong("n"), found.getBigDecimal("d"), found.getDouble("f"),
                tagged("money", found.getString("m")), tagged("json", found.getString("j")),
                tagged("json", found.getString("jb")), found.getBytes("b")));
            row.add(items(found.getArray("ta")));
            row.add(items(found.getArray("na")));
            row.add(found.getSQLXML("x").getString());
            row.add(List.of(found.getString("e"), found.getObject("u").toString(), found.getBoolean("ok"),
                found.getString("r")));
            rows.add(row);
        }
        return rows;
    }

    static List<Object> items(Array array) throws SQLException {
        return Arrays.asList((Object[]) array.getArray());
    }

    static List<Object> column(ResultSet found) throws SQLException {
        List<Object> values = new ArrayList<>();
        while (found.next()) values.add(found.getObject(1));
        return values;
    }

    static List<Object> error(SQLException wrong) {
        List<Object> fields = new ArrayList<>(Arrays.asList(wrong.getSQLState()));
        ServerErrorMessage said = wrong instanceof PSQLException own ? own.getServerErrorMessage() : null;
        if (said != null) {
            fields.addAll(Arrays.asList(said.getSeverity(), said.getMessage(), said.getDetail(), said.getHint(),
                said.getConstraint()));
        }
        return fields;
    }

    interface Work {
        void run() throws Exception;
    }

    static void fails(String step, Work work) throws Exception {
        try {
            work.run();
            say(step, "no error");
        } catch (SQLException wrong) {
            say(step, error(wrong));
        }
    }

    static void modes() throws SQLException {
        String[][] modes = {
            {"preferQueryMode", "simple"}, {"preferQueryMode", "extended"}, {"preferQueryMode", "extendedForPrepared"},
            {"preferQueryMode", "extendedCacheEverything"}, {"prepareThreshold", "1"}, {"prepareThreshold", "-1"},
        };
        for (String[] mode : modes) {
            try (Connection agent = connect(mode); PreparedStatement query = agent.prepareStatement(QUERY)) {
                for (int turn = 1; turn <= 3; turn++) {
                    query.setInt(1, turn + 1);
                    say(String.join(" ", mode) + " " + turn, rows(query.executeQuery()));
                }
            }
        }
    }

    static void parameters(Connection agent) throws SQLException {
        String query = "select ?::text, ?::bigint, ?::numeric, ?::bytea, ?::text[], ?::jsonb, length(?::text)";
        try (PreparedStatement echo = agent.prepareStatement(query)) {
            echo.setString(1, PAN);
            echo.setLong(2, Long.parseLong(PAN));
            echo.setBigDecimal(3, new BigDecimal(PAN + ".25"));
            echo.setBytes(4, PAN.getBytes(StandardCharsets.US_ASCII));
            echo.setArray(5, agent.createArrayOf("text", new String[] {PAN, null, "x"}));
            echo.setObject(6, "{\"pan\": \"" + PAN + "\"}", Types.OTHER);
            echo.setString(7, PAN);
            for (int turn = 1; turn <= 7; turn++) {
                ResultSet found = echo.executeQuery();
                found.next();
                say("parameters " + turn, List.of(found.getString(1), found.getLong(2), found.getBigDecimal(3),
                    found.getBytes(4), items(found.getArray(5)), tagged("json", found.getString(6)), found.getInt(7)));
            }
        }
    }

    static void cursors(Connection agent) throws SQLException {
        agent.setAutoCommit(false);
        try (PreparedStatement query = agent.prepareStatement(QUERY)) {
            query.setFetchSize(1);
            for (int turn = 1; turn <= 6; turn++) {
                query.setInt(1, 4);
                say("fetch size " + turn, rows(query.executeQuery()));
            }
        }
        try (Statement query = agent.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_READ_ONLY)) {
            ResultSet found = query.executeQuery("select t from cards order by id");
            found.last();
            Object last = found.getObject(1);
            found.absolute(2);
            say("scrolled", List.of(last, found.getObject(1)));
        }
        try (PreparedStatement query = agent.prepareStatement(
                "select id, repeat('x', 200) || ? from generate_series(1, 20000) id")) {
            query.setFetchSize(700);
            query.setString(1, PAN);
            ResultSet found = query.executeQuery();
            TreeSet<String> ends = new TreeSet<>();
            int count = 0;
            for (; found.next(); count++) ends.add(found.getString(2).substring(198));
            say("large", List.of(count, ends));
        }
        agent.rollback();
    }

    static void transactions(Connection agent) throws Exception {
        try (Statement run = agent.createStatement()) {
            run.executeUpdate("insert into notes values (61, '" + PAN + "')");
            Savepoint one = agent.setSavepoint("one");
            fails("error in a savepoint", () -> run.executeQuery("select ('x' || t)::int from cards"));
            fails("after an error", () -> run.executeQuery("select 1"));
            agent.rollback(one);
            agent.commit();
            say("committed", column(run.executeQuery("delete from notes where id = 61 returning note")));
            agent.commit();
            fails("error in a transaction", () -> run.executeQuery("select 1 / 0"));
            agent.rollback();
            agent.setAutoCommit(true);
            fails("syntax", () -> run.executeQuery("select where"));
            fails("raised", () -> run.execute("do $$ begin raise exception '" + PAN + "' using detail = '" + PAN
                + "', hint = '" + PAN + "'; end $$"));
            run.execute("select shout('" + PAN + "')");
            List<Object> said = new ArrayList<>();
            for (SQLWarning next = run.getWarnings(); next != null; next = next.getNextWarning()) {
                said.add(next.getMessage());
            }
            say("notices", said);
        }
    }

    static void batches() throws SQLException {
        for (String rewrite : List.of("false", "true")) {
            try (Connection agent = connect("reWriteBatchedInserts", rewrite);
                    PreparedStatement insert = agent.prepareStatement(
                        "insert into notes values (?, ?)", new String[] {"note"})) {
                for (int id = 70; id < 90; id++) {
                    insert.setInt(1, id);
                    insert.setString(2, PAN);
                    insert.addBatch();
                }
                say("batch " + rewrite, List.of(insert.executeBatch().length, column(insert.getGeneratedKeys())));
                try (Statement run = agent.createStatement()) {
                    run.addBatch("update notes set note = note || '!' where id = 70");
                    run.addBatch("insert into notes values (90, ('x' || '" + PAN + "')::int::text)");
                    run.addBatch("update notes set note = 'never' where id = 71");
                    try {
                        run.executeBatch();
                    } catch (SQLException wrong) {
                        say("error in a batch " + rewrite, error(wrong.getNextException()));
                    }
                    say("after it " + rewrite, column(run.executeQuery(
                        "delete from notes where id between 70 and 90 returning note")));
                }
            }
        }
    }

    static void copies(Connection agent) throws Exception {
        CopyManager copies = agent.unwrap(PGConnection.class).getCopyAPI();
        for (String form : List.of("text", "csv")) {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            copies.copyOut("copy (select id, t, v, ta from cards order by id) to stdout (format " + form + ")", out);
            say("copy " + form, out.toString(StandardCharsets.UTF_8));
        }
        byte[] lines = ("91\t" + PAN + "\n92\tcaf\u00e9\n").getBytes(StandardCharsets.UTF_8);
        say("copied", copies.copyIn("copy notes from stdin", new ByteArrayInputStream(lines)));
        try (Statement run = agent.createStatement()) {
            say("what was copied", column(run.executeQuery("delete from notes where id > 90 returning note")));
        }
    }

    static void notifications(Connection agent) throws SQLException {
        try (Statement run = agent.createStatement()) {
            run.execute("listen \"" + PAN + "\"");
            run.execute("select pg_notify('" + PAN + "', 'card " + PAN + "')");
            List<Object> heard = new ArrayList<>();
            for (PGNotification note : agent.unwrap(PGConnection.class).getNotifications(5000)) {
                heard.add(List.of(note.getName(), note.getParameter()));
            }
            say("notifications", heard);
        }
    }

    static void cancels(Connection agent) throws Exception {
        try (Statement run = agent.createStatement()) {
            Thread other = new Thread(() -> {
                try {
                    Thread.sleep(400);
                    run.cancel();
                } catch (InterruptedException | SQLException wrong) {
                    throw new IllegalStateException(wrong);
                }
            });
            other.start();
            fails("cancelled", () -> run.executeQuery("select pg_sleep(60)"));
            other.join();
            run.setQueryTimeout(1);
            fails("timed out", () -> run.executeQuery("select pg_sleep(60)"));
            run.setQueryTimeout(0);
            say("after the cancel", column(run.executeQuery("select t from cards where id = 1")));
            say("unicode", column(run.executeQuery("select 'caf\u00e9 \u0664 \ud83d\ude00 " + PAN + "'")));
        }
    }

    public static void main(String[] arguments) throws Exception {
        modes();
        try (Connection agent = connect()) {
            parameters(agent);
            cursors(agent);
            transactions(agent);
            copies(agent);
            notifications(agent);
            cancels(agent);
        }
        batches();
    }
}
