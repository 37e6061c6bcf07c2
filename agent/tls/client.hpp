// SPDX-License-Identifier: Apache-2.0
// The client's side of one TLS connection without I/O: OpenSSL between two memory buffers. Chain, name and expiry are
// verified unless that is switched off; what went wrong is said in words an operator knows.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/error.hpp"

struct ssl_ctx_st;
struct ssl_st;
struct bio_st;

namespace mesh::tls {

enum class Alpn { kHttp1, kHttp2 };

/// What all connections under one configuration share. Immutable after make(); TLS 1.2 or later.
class ClientContext {
 public:
  struct Options {
    std::string ca_file;  ///< PEM; empty: the system's trust store.
    bool verify = true;
    Alpn alpn = Alpn::kHttp1;
  };
  /// kInvalid or kNotFound if ca_file can't be read or holds no certificate.
  static base::Result<std::shared_ptr<const ClientContext>> make(const Options& options);
  ~ClientContext();
  ClientContext(const ClientContext&) = delete;
  ClientContext& operator=(const ClientContext&) = delete;

 private:
  friend class ClientSession;
  explicit ClientContext(ssl_ctx_st* context, bool verify) : context_(context), verify_(verify) {}
  ssl_ctx_st* context_;
  bool verify_;
};

class ClientSession {
 public:
  enum class State { kHandshake, kOpen, kClosed, kFailed };

  /// `server_name`: DNS name (sent as SNI) or IP address; the certificate must be for it.
  ClientSession(std::shared_ptr<const ClientContext> context, const std::string& server_name);
  ~ClientSession();
  ClientSession(const ClientSession&) = delete;
  ClientSession& operator=(const ClientSession&) = delete;

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
  [[nodiscard]] std::string_view alpn() const;  ///< What the peer chose: "h2"; empty if nothing.

 private:
  void handshake();
  void fail();
  void collect_output();

  std::shared_ptr<const ClientContext> context_;
  ssl_st* ssl_;
  bio_st* from_peer_;  ///< Owned by ssl_, as the next one.
  bio_st* to_peer_;
  State state_ = State::kHandshake;
  std::string outgoing_;
  std::size_t sent_ = 0;
  std::string error_;
};

}  // namespace mesh::tls
