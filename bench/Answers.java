import jakarta.servlet.ServletException;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.HexFormat;

/** The same answers as application.py, from files that the benchmark writes of its content. */
public final class Answers extends HttpServlet {
    private static final long serialVersionUID = 1L;
    private static final int CHUNK_BYTES = 16384;
    private static final int READ_BYTES = 65536;

    private final String servedBy = System.getenv("BENCH_SERVER");
    private byte[] hello;
    private byte[] page;
    private byte[] body;

    @Override
    public void init() throws ServletException {
        Path content = Path.of(System.getProperty("bench.content"));
        try {
            hello = Files.readAllBytes(content.resolve("hello"));
            page = Files.readAllBytes(content.resolve("page"));
            body = Files.readAllBytes(content.resolve("body"));
        } catch (IOException problem) {
            throw new ServletException(problem);
        }
    }

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response)
            throws ServletException, IOException {
        String path = request.getRequestURI();
        switch (path.substring(path.lastIndexOf('/') + 1)) {
            case "hello":
                answer(response, "text/plain", hello);
                break;
            case "page":
                response.setHeader("Cache-Control", "private, max-age=60");
                response.setHeader("Content-Language", "en");
                response.setHeader("Vary", "Cookie");
                answer(response, "text/html; charset=utf-8", page);
                break;
            case "body":
                answer(response, "application/octet-stream", body);
                break;
            case "chunks":
                head(response, "application/octet-stream", body.length);
                OutputStream out = response.getOutputStream();
                for (int at = 0; at < body.length; at += CHUNK_BYTES) {
                    out.write(body, at, CHUNK_BYTES);
                    out.flush();
                }
                break;
            case "upload":
                answer(response, "text/plain", (read(request, null) + "\n").getBytes("ASCII"));
                break;
            case "digest":
                try {
                    MessageDigest whole = MessageDigest.getInstance("SHA-256");
                    read(request, whole);
                    String digest = HexFormat.of().formatHex(whole.digest());
                    answer(response, "text/plain", digest.getBytes("ASCII"));
                } catch (GeneralSecurityException problem) {
                    throw new ServletException(problem);
                }
                break;
            case "sleep":
                try {
                    Thread.sleep(50);
                } catch (InterruptedException problem) {
                    throw new ServletException(problem);
                }
                answer(response, "text/plain", hello);
                break;
            default:
                response.sendError(404);
        }
    }

    private void head(HttpServletResponse response, String kind, int length) {
        response.setHeader("Content-Type", kind);
        response.setContentLength(length);
        response.setHeader("X-Served-By", servedBy);
    }

    private void answer(HttpServletResponse response, String kind, byte[] content)
            throws IOException {
        head(response, kind, content.length);
        response.getOutputStream().write(content);
    }

    private long read(HttpServletRequest request, MessageDigest digest) throws IOException {
        InputStream in = request.getInputStream();
        byte[] block = new byte[READ_BYTES];
        long length = 0;
        for (int got = in.read(block); got > 0; got = in.read(block)) {
            length += got;
            if (digest != null) {
                digest.update(block, 0, got);
            }
        }
        return length;
    }
}
