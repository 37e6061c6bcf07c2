// SPDX-License-Identifier: Apache-2.0
// One side of one TLS connection without I/O: OpenSSL between two memory buffers. Which side it is, and what it
// verifies, is set up by tls/client.hpp and tls/server.hpp.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/error.hpp"

struct ssl_st;
struct bio_st;

namespace mesh::tls {

class Session {
 public:
  enum class State { kHandshake, kOpen, kClosed, kFailed };

  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Bytes for the peer, until taken by sent(). Stable until the next call of feed() or write().
  [[nodiscard]] std::span<const std::byte> output() const { return std::as_bytes(std::span(outgoing_)).subspan(sent_); }
  void sent(std::size_t count);
  /// Bytes from the peer; decrypted ones are appended to `plain`.
  State feed(std::span<const std::byte> bytes, std::string& plain);
  /// Encrypts all of `plain`. Only when open.
  void write(std::span<const std::byte> plain);

  [[nodiscard]] State state() const { return state_; }
  /// "certificate expired", "self-signed certificate", "name mismatch", "unknown issuer", "not TLS", ...
  [[nodiscard]] const std::string& error() const { return error_; }

 protected:
  /// Takes over `ssl`, which knows its side.
  explicit Session(ssl_st* ssl);
  ~Session();
  void handshake();
  [[nodiscard]] ssl_st* ssl() const { return ssl_; }

 private:
  void fail();
  void collect_output();

  ssl_st* ssl_;
  bio_st* from_peer_;  ///< Owned by ssl_, as the next one.
  bio_st* to_peer_;
  State state_ = State::kHandshake;
  std::string outgoing_;
  std::size_t sent_ = 0;
  std::string error_;
};

/// What the library says went wrong last, in words an operator knows; clears it.
std::string library_error();

}  // namespace mesh::tls
