// SPDX-License-Identifier: Apache-2.0
// The server's side of an HTTP/1 connection without I/O: bytes in, requests out; a response becomes bytes. Boost.Beast
// is the parser, and only that. Used by the admin socket and the metrics listener.
//
//   session.feed(received);
//   while (auto request = session.next()) write(render(answer(*request), ...));
//   if (auto status = session.refusal()) { write(render({*status, ...}, ...)); close after it is sent; }
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "http/message.hpp"

namespace mesh::http {

struct ServerLimits {
  std::uint32_t header_bytes = 8 * 1024;       ///< Request line and headers; more is 431.
  std::uint32_t body_bytes = 1024 * 1024;      ///< More is 413, as soon as it is announced or received.
  std::uint32_t pipelined_bytes = 256 * 1024;  ///< Received but not yet taken by next(); more is 413.
};

class ServerSession {
 public:
  explicit ServerSession(ServerLimits limits = {});
  ~ServerSession();
  ServerSession(ServerSession&&) noexcept;
  ServerSession& operator=(ServerSession&&) noexcept;

  /// Bytes from the client, split anywhere. Ignored after a refusal.
  void feed(std::span<const std::byte> bytes);
  /// The next whole request, in order; nothing until more bytes come, or for ever after a refusal.
  std::optional<Request> next();
  /// The status to answer before closing, when the client broke the protocol or a limit: 400, 413 or 431.
  [[nodiscard]] std::optional<unsigned> refusal() const;
  /// No request is begun: the client may close here without losing one.
  [[nodiscard]] bool idle() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct RenderOptions {
  bool keep_alive = true;  ///< Else "Connection: close" is said.
  bool head = false;       ///< The answer to a HEAD: headers as for the body, but no body.
};

/// The response as bytes for the wire, HTTP/1.1 with Content-Length. Header values are cut at a line break.
[[nodiscard]] std::string render(const Response& response, RenderOptions options);

}  // namespace mesh::http
