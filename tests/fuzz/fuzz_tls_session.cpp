// SPDX-License-Identifier: Apache-2.0
// A client of the server's session that says anything, in pieces of any size: raw bytes from the first on, or a real
// client whose flights are damaged. The session must keep its promises about what it takes and fills.
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>

#include "tests/support/tls_client.hpp"
#include "tls/server.hpp"

using namespace mesh::tls;

namespace {

std::shared_ptr<const ServerContext> make_context() {
  const auto end = std::chrono::system_clock::now() + std::chrono::hours(24);
  const auto pem = mesh::test::make_certificate_for("DNS:shop.test", end, nullptr);
  TicketKeys keys;
  rotate(keys, mesh::base::wall_now());
  return ServerContext::make({.certificates = {Certificate::parse(pem.certificate, pem.key).value()},
                              .alpn = {"h2", "http/1.1"},
                              .tickets = std::make_shared<TicketKeys>(keys)},
                             Library::shared())
      .value();
}

void say(ServerSession& session, std::span<const std::byte> bytes, std::size_t piece) {
  std::array<std::byte, 512> plain;
  while (!bytes.empty()) {
    const auto offered = bytes.first(std::min(piece, bytes.size()));
    const Session::Read done = session.read(offered, plain);
    if (done.taken > offered.size() || done.plain > plain.size()) std::abort();
    if (session.state() == Session::State::kFailed && session.error().empty()) std::abort();
    const bool stuck = done.taken == 0 && done.plain == 0;
    if (stuck && session.output().empty()) std::abort();
    if (session.output().size() > kOutputBytes) std::abort();
    if (session.state() == Session::State::kOpen && done.plain > 0) session.write(std::span(plain).first(done.plain));
    session.sent(session.output().size());
    bytes = bytes.subspan(done.taken);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto context = make_context();
  if (size < 4) return 0;
  const std::size_t piece = data[0] % 64 + 1;
  ServerSession session(context);
  if (data[1] % 2 == 0) {
    say(session, std::as_bytes(std::span(data + 4, size - 4)), piece);
    return 0;
  }
  // A real client; the input says which bytes of its flights are changed, and how.
  static const mesh::test::TlsClient first({.server_name = "shop.test", .alpn = "\x02h2"});
  mesh::test::TlsClient client(first, nullptr);
  std::size_t at = 4;
  for (int flight = 0; flight < 4; ++flight) {
    std::string said = client.take_output();
    if (said.empty()) break;
    for (const std::size_t until = std::min(size, at + 12); at + 3 <= until; at += 3) {
      const std::size_t where = (data[at] << 8 | data[at + 1]) % said.size();
      if (data[at + 2] != 0) said[where] = static_cast<char>(said[where] ^ data[at + 2]);
    }
    const std::string before = said;
    for (std::size_t from = 0; from < before.size(); from += piece) {
      std::array<std::byte, 512> plain;
      session.read(std::as_bytes(std::span(before)).subspan(from, std::min(piece, before.size() - from)), plain);
      client.feed(session.output());
      session.sent(session.output().size());
    }
  }
  return 0;
}
