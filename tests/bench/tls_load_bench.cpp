// SPDX-License-Identifier: Apache-2.0
// One TLS connection after the other, each closed as soon as the server has finished its handshake too; prints a JSON
// object with how many there were in how many seconds. (openssl s_time counts in whole seconds of the wall clock, and
// can't say when a TLS 1.3 server is done.)
//
//   tls_load_bench --address A:P --seconds N [--threads N] [--tls12] [--resume] [--certificate FILE --key FILE]
//
// With --resume every handshake but the first of each thread is a resumed one, or it is an error. What servers show is
// not verified but for the signature in the handshake: clients are not what is measured.
#include <fmt/format.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <CLI/CLI.hpp>
#include <array>
#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/address.hpp"
#include "base/clock.hpp"
#include "base/fd.hpp"

namespace mesh::bench {
namespace {

struct Options {
  std::string address;
  unsigned seconds = 1;
  unsigned threads = 8;
  bool tls12 = false;
  bool resume = false;
  std::string certificate;
  std::string key;
};

std::string library_error() { return ERR_reason_error_string(ERR_peek_last_error()) ?: "closed"; }

/// One thread's connections. The library's objects are its own: threads don't wait for each other.
class Client {
 public:
  explicit Client(const Options& options) : options_(options) {
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_NONE, nullptr);
    SSL_CTX_set_max_proto_version(context_.get(), options.tls12 ? TLS1_2_VERSION : TLS1_3_VERSION);
    SSL_CTX_set_min_proto_version(context_.get(), options.tls12 ? TLS1_2_VERSION : TLS1_3_VERSION);
    SSL_CTX_clear_mode(context_.get(), SSL_MODE_AUTO_RETRY);  // a read ends with a ticket
    SSL_CTX_set_session_cache_mode(
        context_.get(), options.resume ? SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL : SSL_SESS_CACHE_OFF);
    SSL_CTX_set_app_data(context_.get(), this);
    SSL_CTX_sess_set_new_cb(context_.get(), [](SSL* ssl, SSL_SESSION* given) {
      auto& client = *static_cast<Client*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
      client.session_.reset(given);
      // One is enough; and with a cache, the library gives a session of TLS 1.3 up as soon as it was resumed once.
      SSL_CTX_set_session_cache_mode(client.context_.get(), SSL_SESS_CACHE_OFF);
      return 1;
    });
    if (options.certificate.empty()) return;
    if (SSL_CTX_use_certificate_chain_file(context_.get(), options.certificate.c_str()) != 1 ||
        SSL_CTX_use_PrivateKey_file(context_.get(), options.key.c_str(), SSL_FILETYPE_PEM) != 1) {
      problem = "load " + options.certificate + ": " + library_error();
    }
  }

  /// False: `problem` says why.
  bool connect(const base::SocketAddress& server) {
    const base::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const timeval patience{.tv_sec = 5, .tv_usec = 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    sockaddr_storage address{};
    const socklen_t length = server.to_sockaddr(address);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0) return fail("connect");
    const std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(context_.get()), SSL_free);
    SSL_set_fd(ssl.get(), fd.get());
    const bool resumes = options_.resume && session_ != nullptr;
    if (resumes) SSL_set_session(ssl.get(), session_.get());
    if (SSL_connect(ssl.get()) != 1) return fail("handshake: " + library_error());
    if (resumes && SSL_session_reused(ssl.get()) == 0) return fail("the session was not resumed");
    std::array<char, 16384> scratch;
    if (options_.resume && session_ == nullptr) {
      SSL_read(ssl.get(), scratch.data(), scratch.size());
      if (session_ == nullptr) return fail("no ticket: " + library_error());
    } else if (!options_.tls12 && ::recv(fd.get(), scratch.data(), scratch.size(), 0) <= 0) {
      return fail("no ticket");  // which a server of TLS 1.3 sends when it has seen the client's last word
    }
    SSL_set_shutdown(ssl.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);  // else the session is given up
    return true;
  }

  std::string problem;

 private:
  bool fail(std::string why) {
    problem = std::move(why);
    return false;
  }

  const Options& options_;
  std::unique_ptr<OSSL_LIB_CTX, decltype(&OSSL_LIB_CTX_free)> library_{OSSL_LIB_CTX_new(), OSSL_LIB_CTX_free};
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_{
      SSL_CTX_new_ex(library_.get(), nullptr, TLS_client_method()), SSL_CTX_free};
  std::unique_ptr<SSL_SESSION, decltype(&SSL_SESSION_free)> session_{nullptr, SSL_SESSION_free};
};

int load(const Options& options) {
  const auto server = base::SocketAddress::parse(options.address);
  if (!server) {
    fmt::print(stderr, "tls_load_bench: {}\n", server.error().to_string());
    return 2;
  }
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> done = 0;
  std::vector<std::unique_ptr<Client>> clients;
  for (unsigned i = 0; i < options.threads; ++i) clients.push_back(std::make_unique<Client>(options));
  const base::TimePoint begin = base::steady_now();
  {
    std::vector<std::jthread> threads;
    for (const auto& client : clients) {
      threads.emplace_back([&] {
        while (!stop && client->problem.empty() && client->connect(*server)) ++done;
        if (!client->problem.empty()) stop = true;
      });
    }
    const base::TimePoint end = begin + std::chrono::seconds(options.seconds);
    while (!stop && base::steady_now() < end) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    stop = true;
  }
  const double took = std::chrono::duration<double>(base::steady_now() - begin).count();
  for (const auto& client : clients) {
    if (client->problem.empty()) continue;
    fmt::print(stderr, "tls_load_bench: {}: {}\n", options.address, client->problem);
    return 1;
  }
  fmt::print(R"({{"done": {}, "seconds": {}}})"
             "\n",
             done.load(), took);
  return 0;
}

}  // namespace
}  // namespace mesh::bench

int main(int argc, char** argv) {
  mesh::bench::Options options;
  CLI::App app{"TLS handshakes, one after the other."};
  app.add_option("--address", options.address)->required();
  app.add_option("--seconds", options.seconds)->check(CLI::PositiveNumber);
  app.add_option("--threads", options.threads)->check(CLI::PositiveNumber);
  app.add_flag("--tls12", options.tls12);
  app.add_flag("--resume", options.resume);
  CLI::Option* key = app.add_option("--key", options.key);
  CLI::Option* certificate = app.add_option("--certificate", options.certificate)->needs(key);
  key->needs(certificate);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return mesh::bench::load(options);
}
