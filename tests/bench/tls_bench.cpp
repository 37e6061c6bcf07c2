// SPDX-License-Identifier: Apache-2.0
// What TLS costs a worker of the relay, in memory: the time of the server's calls alone, while a client in the same
// thread does its part off the clock.
#include <benchmark/benchmark.h>
#include <openssl/ssl.h>

#include <chrono>
#include <ctime>
#include <memory>
#include <vector>

#include "tests/support/tls_client.hpp"
#include "tls/server.hpp"

namespace mesh::tls {
namespace {

/// CPU time of this thread: a server waits for nothing here, and neighbours on the machine don't count.
struct Clock {
  static std::chrono::nanoseconds now() {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  }
};

enum Kind : std::uint8_t { kEc, kRsa, kMutual };

struct World {
  std::shared_ptr<const ServerContext> context;
  test::CertificatePem client;
};

test::CertificatePem pem_of(Kind kind) {
  static const auto end = std::chrono::system_clock::now() + std::chrono::hours(12);
  return test::make_certificate_for("DNS:shop.test", end, nullptr,
                                    kind == kRsa ? test::KeyKind::kRsa2048 : test::KeyKind::kEc256);
}

World make_world(Kind kind, const std::shared_ptr<const Library>& library, bool tickets) {
  static const auto end = std::chrono::system_clock::now() + std::chrono::hours(12);
  World world;
  const auto pem = pem_of(kind);
  ServerOptions options{.certificates = {*Certificate::parse(pem.certificate, pem.key)}};
  if (tickets) {
    TicketKeys keys;
    rotate(keys, base::wall_now());
    options.tickets = std::make_shared<TicketKeys>(keys);
  }
  if (kind == kMutual) {
    const auto authority = test::make_authority("clients", end);
    world.client = test::make_certificate_for("URI:spiffe://example.org/client", end, &authority);
    options.verify = ClientVerify::kRequire;
    options.authorities = *Authorities::parse(authority.certificate, "");
  }
  world.context = *ServerContext::make(options, library);
  return world;
}

struct Timed {
  std::chrono::nanoseconds spent{};
  template <typename Work>
  auto operator()(Work&& work) {
    const auto begin = Clock::now();
    struct Stop {
      Timed& timed;
      std::chrono::nanoseconds begin;
      ~Stop() { timed.spent += Clock::now() - begin; }
    } stop{*this, begin};
    return work();
  }
};

/// Everything from the first byte of the hello until the client is done and the tickets are sent.
bool shake_hands(test::TlsClient& client, const std::shared_ptr<const ServerContext>& context, Timed& timed,
                 bool expect_resumed) {
  std::unique_ptr<ServerSession> server;
  std::vector<std::byte> plain(16384);
  timed([&] { server = std::make_unique<ServerSession>(context); });
  for (std::string said = client.take_output(); !said.empty(); said = client.take_output()) {
    timed([&] { server->read(std::as_bytes(std::span(said)), plain); });
    client.feed(server->output());
    timed([&] { server->sent(server->output().size()); });
  }
  const bool good = server->state() == Session::State::kOpen && server->resumed() == expect_resumed;
  timed([&] { server.reset(); });
  return good;
}

void handshake(benchmark::State& state, Kind kind, int version, bool resumed) {
  const World world = make_world(kind, Library::make(), resumed);
  test::TlsClient first({.server_name = "shop.test", .max_version = version, .certificate = world.client});
  Timed untimed;
  if (!shake_hands(first, world.context, untimed, false)) return state.SkipWithError("the handshake failed");
  SSL_SESSION* session = resumed ? first.session() : nullptr;
  for (auto _ : state) {
    test::TlsClient client(first, session);
    Timed timed;
    if (!shake_hands(client, world.context, timed, resumed)) {
      state.SkipWithError("the handshake failed");
      break;
    }
    client.close();  // else the library gives the session up
    state.SetIterationTime(std::chrono::duration<double>(timed.spent).count());
  }
  SSL_SESSION_free(session);
  state.SetItemsProcessed(state.iterations());
}

/// An open connection.
struct Pair {
  Pair() : world(make_world(kEc, Library::make(), false)), client({}), server(world.context) {
    test::talk(client, server);
  }
  World world;
  test::TlsClient client;
  ServerSession server;
};

void send_bulk(benchmark::State& state) {
  Pair pair;
  const std::vector<std::byte> plain(static_cast<std::size_t>(state.range(0)));
  for (auto _ : state) {
    pair.server.write(plain);
    pair.server.sent(pair.server.output().size());
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

void receive_bulk(benchmark::State& state) {
  Pair pair;
  std::vector<std::byte> plain(64 * 1024);
  const std::string text(static_cast<std::size_t>(state.range(0)), 'x');
  for (auto _ : state) {
    pair.client.write(text);
    const std::string cipher = pair.client.take_output();
    Timed timed;
    timed([&] { pair.server.read(std::as_bytes(std::span(cipher)), plain); });
    state.SetIterationTime(std::chrono::duration<double>(timed.spent).count());
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

void make_and_drop_session(benchmark::State& state) {
  const World world = make_world(kEc, Library::make(), false);
  for (auto _ : state) {
    const ServerSession session(world.context);
    benchmark::DoNotOptimize(session.output().data());
  }
}

BENCHMARK_CAPTURE(handshake, ecdsa, kEc, TLS1_3_VERSION, false)->UseManualTime();
BENCHMARK_CAPTURE(handshake, ecdsa_tls12, kEc, TLS1_2_VERSION, false)->UseManualTime();
BENCHMARK_CAPTURE(handshake, ecdsa_resumed, kEc, TLS1_3_VERSION, true)->UseManualTime();
BENCHMARK_CAPTURE(handshake, ecdsa_resumed_tls12, kEc, TLS1_2_VERSION, true)->UseManualTime();
BENCHMARK_CAPTURE(handshake, rsa, kRsa, TLS1_3_VERSION, false)->UseManualTime();
BENCHMARK_CAPTURE(handshake, mutual, kMutual, TLS1_3_VERSION, false)->UseManualTime();
BENCHMARK_CAPTURE(handshake, mutual_resumed, kMutual, TLS1_3_VERSION, true)->UseManualTime();
BENCHMARK(make_and_drop_session);
BENCHMARK(send_bulk)->Arg(64)->Arg(1024)->Arg(16384)->Arg(65536);
BENCHMARK(receive_bulk)->Arg(64)->Arg(1024)->Arg(16384)->UseManualTime();

}  // namespace
}  // namespace mesh::tls

BENCHMARK_MAIN();
