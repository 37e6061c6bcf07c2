// SPDX-License-Identifier: Apache-2.0
// The HTTP client of registries against real TLS servers and hostile peers on loopback.
#include "http/fetch.hpp"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <filesystem>
#include <thread>

#include "tests/support/certificate.hpp"
#include "tests/support/peer.hpp"

namespace mesh::http {
namespace {

using namespace std::chrono_literals;
using base::ErrorKind;
using test::hear;
using test::linger;
using test::Peer;
using test::Process;
using test::say;

constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

std::string url(std::uint16_t port) { return "http://127.0.0.1:" + std::to_string(port) + "/x?secret"; }

class FetchTest : public testing::Test {
 protected:
  FetchTest() : folder_("/tmp/fetch-test-" + std::to_string(::getpid())) {
    ::signal(SIGPIPE, SIG_IGN);
    std::filesystem::create_directory(folder_);
  }
  ~FetchTest() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, std::string_view text) {
    const std::string path = folder_ + "/" + name;
    EXPECT_TRUE(base::write_file_atomically(path, text));
    return path;
  }
  static base::Result<FetchResponse> fetch(FetchRequest request, FetchSettings settings = {}) {
    return Fetcher(std::move(settings)).fetch(std::move(request), -1);
  }
  /// The error of a request that has to fail, as "kind: message".
  static base::Error error_of(FetchRequest request, FetchSettings settings = {}) {
    auto result = fetch(std::move(request), std::move(settings));
    if (result) return {ErrorKind::kConflict, "it succeeded with " + std::to_string(result->status), "", 0};
    return result.error();
  }
  /// `openssl s_server` with more options; answers each request with a page.
  Process tls_server(std::uint16_t port, std::vector<std::string> options) {
    std::vector<std::string> arguments = {"openssl", "s_server", "-quiet",
                                          "-www",    "-accept",  "127.0.0.1:" + std::to_string(port)};
    arguments.insert(arguments.end(), options.begin(), options.end());
    Process server = Process::start({.output = folder_ + "/s_server.log"}, arguments);
    EXPECT_TRUE(test::eventually(10s, [port] { return test::listens(port); }));
    return server;
  }
  test::CertificatePem authority_ = test::make_authority("fetch test", std::chrono::system_clock::now() + 1h);
  std::string folder_;
};

TEST_F(FetchTest, an_answer_has_status_headers_and_body) {
  const Peer peer([](int fd) {
    const std::string request = hear(fd);
    say(fd, "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nX-Index: 7\r\nTransfer-Encoding: chunked\r\n\r\n");
    say(fd, "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
    linger(fd);
  });
  const auto response = fetch({.url = url(peer.port())});
  ASSERT_TRUE(response) << response.error().to_string();
  EXPECT_EQ(response->status, 429u);
  EXPECT_EQ(response->retry_after, 3s);
  EXPECT_EQ(*find_header(response->headers, "x-index"), "7");
  EXPECT_EQ(response->body, "abc");
}

TEST_F(FetchTest, a_credential_file_is_read_again_for_each_request) {
  const Peer peer([](int fd) {
    while (true) {
      const std::string request = hear(fd);
      if (request.empty()) return;
      const auto at = request.find("Authorization: ");
      const std::string said = at == std::string::npos ? "none" : request.substr(at, request.find('\r', at) - at);
      say(fd, "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(said.size()) + "\r\n\r\n" + said);
    }
  });
  const std::string token = write("token", "first\n");
  Fetcher fetcher({.credentials = {{.file = token}}});
  EXPECT_EQ(fetcher.fetch({.url = url(peer.port())}, -1)->body, "Authorization: Bearer first");
  write("token", "second\n");
  EXPECT_EQ(fetcher.fetch({.url = url(peer.port())}, -1)->body, "Authorization: Bearer second");
  std::filesystem::remove(token);
  EXPECT_EQ(fetcher.fetch({.url = url(peer.port())}, -1).error().kind, ErrorKind::kNotFound);
  write("token", "two\nlines");
  EXPECT_EQ(fetcher.fetch({.url = url(peer.port())}, -1).error().kind, ErrorKind::kInvalid);
}

TEST_F(FetchTest, a_server_that_hangs_or_crawls_is_given_up) {
  const Peer hung([](int fd) { linger(fd); });
  EXPECT_EQ(error_of({.url = url(hung.port()), .no_progress = 100ms}).kind, ErrorKind::kTimeout);
  EXPECT_EQ(error_of({.url = url(hung.port()), .deadline = 100ms}).kind, ErrorKind::kTimeout);

  const Peer stalls([](int fd) {
    hear(fd);
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome");
    linger(fd);
  });
  EXPECT_EQ(error_of({.url = url(stalls.port()), .no_progress = 100ms}).kind, ErrorKind::kTimeout);

  const Peer crawls([](int fd) {
    hear(fd);
    say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    while (::send(fd, "x", 1, MSG_NOSIGNAL) == 1) ::usleep(10'000);
  });
  // Bytes come all the time, so that only the deadline can end it.
  EXPECT_EQ(error_of({.url = url(crawls.port()), .deadline = 300ms, .no_progress = 5s}).kind, ErrorKind::kTimeout);
}

TEST_F(FetchTest, an_endless_answer_ends_at_the_limit) {
  const Peer endless([](int fd) {
    hear(fd);
    say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    while (::send(fd, "8\r\nabcdefgh\r\n", 13, MSG_NOSIGNAL) == 13) continue;
  });
  EXPECT_EQ(error_of({.url = url(endless.port()), .body_limit = 100'000}).kind, ErrorKind::kExhausted);
  std::size_t got = 0;
  const auto count = [&got](std::string_view piece) -> base::Result<void> {
    got += piece.size();
    if (got > 1'000'000) return base::fail(ErrorKind::kInvalid, "enough");
    return {};
  };
  const auto error = error_of({.url = url(endless.port()), .body_limit = 0, .on_body = count});
  EXPECT_EQ(error.message, "enough");

  const Peer headers([](int fd) {
    hear(fd);
    say(fd, "HTTP/1.1 200 OK\r\n");
    while (::send(fd, "A: bcdefghijklmnopqrs\r\n", 23, MSG_NOSIGNAL) == 23) continue;
  });
  EXPECT_EQ(error_of({.url = url(headers.port())}).kind, ErrorKind::kExhausted);
}

TEST_F(FetchTest, a_packed_answer_comes_unpacked_and_counts_so) {
  // 100,000 times an a, as gzip packs it.
  constexpr std::array<char, 27> kFirst = {'\x1f', '\x8b', '\x08', '\x00', '\x00', '\x00', '\x00', '\x00', '\x02',
                                           '\x03', '\xed', '\xc1', '\x31', '\x01', '\x00', '\x00', '\x00', '\xc2',
                                           '\xa0', '\xac', '\xeb', '\x5f', '\xc2', '\x1a', '\x1e', '\x40', '\x01'};
  constexpr std::array<char, 10> kLast = {'\xaf', '\x06', '\x87', '\xfa', '\xe2',
                                          '\x1b', '\xa0', '\x86', '\x01', '\x00'};
  const std::string packed =
      std::string(kFirst.begin(), kFirst.end()) + std::string(96, '\0') + std::string(kLast.begin(), kLast.end());
  const Peer peer([&packed](int fd) {
    const bool asked = hear(fd).contains("Accept-Encoding: gzip\r\n");
    say(fd, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: " + std::to_string(packed.size()) +
                "\r\n\r\n" + (asked ? packed : std::string(packed.size(), '-')));
    linger(fd);
  });
  const auto response = fetch({.url = url(peer.port()), .gzip = true});
  ASSERT_TRUE(response) << response.error().to_string();
  EXPECT_EQ(response->body, std::string(100'000, 'a'));
  EXPECT_EQ(error_of({.url = url(peer.port()), .body_limit = 99'999, .gzip = true}).kind, ErrorKind::kExhausted);
}

TEST_F(FetchTest, garbage_is_an_error_and_never_an_answer) {
  for (const std::string_view garbage :
       {"", "hello\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "\x16\x03\x01"}) {
    const Peer peer([garbage](int fd) {
      hear(fd);
      say(fd, garbage);
    });
    const auto error = error_of({.url = url(peer.port()), .deadline = 5s});
    EXPECT_NE(error.kind, ErrorKind::kConflict) << garbage << ": " << error.message;
    EXPECT_FALSE(error.message.contains("secret")) << error.message;
  }
}

TEST_F(FetchTest, nobody_there_is_unavailable) {
  EXPECT_EQ(error_of({.url = url(test::free_port())}).kind, ErrorKind::kUnavailable);
  EXPECT_EQ(error_of({.url = "ftp://127.0.0.1/"}).kind, ErrorKind::kInvalid);
}

TEST_F(FetchTest, a_redirect_is_not_followed) {
  const Peer peer([](int fd) {
    hear(fd);
    say(fd, "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
    linger(fd);
  });
  EXPECT_EQ(fetch({.url = url(peer.port())})->status, 302u);
}

TEST_F(FetchTest, ends_at_once_when_it_is_woken) {
  const Peer hung([](int fd) { linger(fd); });
  const base::Fd wake(::eventfd(0, EFD_CLOEXEC));
  std::thread waker([&] {
    std::this_thread::sleep_for(50ms);
    ::eventfd_write(wake.get(), 1);
  });
  const auto started = std::chrono::steady_clock::now();
  Fetcher fetcher({});
  const auto result = fetcher.fetch({.url = url(hung.port())}, wake.get());
  waker.join();
  EXPECT_FALSE(result);
  EXPECT_LT(std::chrono::steady_clock::now() - started, 1s);
  EXPECT_EQ(fetcher.active(), 0u);
}

TEST_F(FetchTest, several_requests_run_side_by_side) {
  const Peer hung([](int fd) { linger(fd); });
  const Peer good([](int fd) {
    while (!hear(fd).empty()) say(fd, kOk);
  });
  Fetcher fetcher({});
  const auto waits = fetcher.begin({.url = url(hung.port())});
  const auto answers = fetcher.begin({.url = url(good.port())});
  ASSERT_TRUE(waits && answers);
  std::vector<Fetcher::Finished> finished;
  while (finished.empty()) finished = fetcher.run(10s, -1);
  ASSERT_EQ(finished.size(), 1u);
  EXPECT_EQ(finished[0].id, *answers);
  EXPECT_EQ(finished[0].result->body, "ok");
  EXPECT_EQ(fetcher.active(), 1u);
  EXPECT_TRUE(fetcher.run(10ms, -1).empty());
  fetcher.cancel(*waits);
  EXPECT_EQ(fetcher.active(), 0u);
}

TEST_F(FetchTest, a_body_comes_piece_by_piece_before_it_is_whole) {
  const Peer stream([](int fd) {
    hear(fd);
    say(fd, "HTTP/1.1 200 OK\r\nX-Index: 7\r\nTransfer-Encoding: chunked\r\n\r\n");
    ::usleep(50'000);
    say(fd, "3\r\none\r\n");
    linger(fd);
  });
  std::string got;
  Fetcher fetcher({});
  ASSERT_TRUE(fetcher.begin({.url = url(stream.port()),
                             .on_start = [&got](const Headers& headers) { got += *find_header(headers, "X-Index"); },
                             .on_body = [&got](std::string_view piece) -> base::Result<void> {
                               got += piece;
                               return {};
                             }}));
  while (got.empty()) ASSERT_TRUE(fetcher.run(10s, -1).empty());
  EXPECT_EQ(got, "7") << "a stream has begun before its first piece";
  while (got != "7one") ASSERT_TRUE(fetcher.run(10s, -1).empty());
}

TEST_F(FetchTest, verifies_chain_and_name_and_reads_a_changed_authority) {
  const auto end = std::chrono::system_clock::now() + 1h;
  const auto pem = test::make_certificate_for("DNS:registry.test", end, &authority_);
  const std::uint16_t port = test::free_port();
  const Process server = tls_server(port, {"-cert", write("cert", pem.certificate), "-key", write("key", pem.key)});
  const FetchRequest request{.url = "https://127.0.0.1:" + std::to_string(port) + "/"};
  const std::string ca = write("ca", test::make_authority("other", end).certificate);

  Fetcher fetcher({.tls = {.ca = {.file = ca}, .server_name = "registry.test"}});
  EXPECT_EQ(fetcher.fetch(request, -1).error().kind, ErrorKind::kUnavailable) << "another authority";
  write("ca", authority_.certificate);
  const auto answer = fetcher.fetch(request, -1);
  ASSERT_TRUE(answer) << answer.error().to_string();
  EXPECT_EQ(answer->status, 200u);
  write("ca", test::make_authority("other", end).certificate);
  EXPECT_FALSE(fetcher.fetch(request, -1)) << "a connection must not outlive the trust in it";

  EXPECT_FALSE(fetch(request, {.tls = {.ca = {.text = authority_.certificate}}})) << "the name is not 127.0.0.1";
  EXPECT_FALSE(fetch(request)) << "the system does not trust it";
  EXPECT_TRUE(fetch(request, {.tls = {.verify = false}}));
  EXPECT_EQ(error_of(request, {.tls = {.ca = {.text = "garbage"}}}).kind, ErrorKind::kInvalid);
}

TEST_F(FetchTest, an_expired_certificate_is_refused) {
  const auto pem = test::make_certificate_for("IP:127.0.0.1", std::chrono::system_clock::now() - 1min, &authority_);
  const std::uint16_t port = test::free_port();
  const Process server = tls_server(port, {"-cert", write("cert", pem.certificate), "-key", write("key", pem.key)});
  const auto error = error_of({.url = "https://127.0.0.1:" + std::to_string(port) + "/"},
                              {.tls = {.ca = {.text = authority_.certificate}}});
  EXPECT_EQ(error.kind, ErrorKind::kUnavailable);
  EXPECT_TRUE(error.message.contains("expired")) << error.message;
}

TEST_F(FetchTest, shows_its_certificate_and_speaks_no_old_tls) {
  const auto end = std::chrono::system_clock::now() + 1h;
  const auto pem = test::make_certificate_for("IP:127.0.0.1", end, &authority_);
  const auto client = test::make_certificate_for("DNS:node", end, &authority_);
  const std::uint16_t port = test::free_port();
  const Process server =
      tls_server(port, {"-cert", write("cert", pem.certificate), "-key", write("key", pem.key), "-Verify", "1",
                        "-verify_return_error", "-CAfile", write("ca", authority_.certificate)});
  const FetchRequest request{.url = "https://127.0.0.1:" + std::to_string(port) + "/"};
  FetchTls tls{.ca = {.text = authority_.certificate}};
  EXPECT_FALSE(fetch(request, {.tls = tls}));
  tls.certificate.file = write("client", client.certificate);
  tls.key.file = write("client.key", client.key);
  const auto answer = fetch(request, {.tls = tls});
  EXPECT_TRUE(answer) << answer.error().to_string();
  tls.key = {.text = "garbage"};
  EXPECT_EQ(error_of(request, {.tls = tls}).kind, ErrorKind::kInvalid);

  const std::uint16_t old_port = test::free_port();
  const Process old = tls_server(
      old_port, {"-cert", folder_ + "/cert", "-key", folder_ + "/key", "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"});
  EXPECT_FALSE(fetch({.url = "https://127.0.0.1:" + std::to_string(old_port) + "/"}, {.tls = {.verify = false}}));
}

}  // namespace
}  // namespace mesh::http
