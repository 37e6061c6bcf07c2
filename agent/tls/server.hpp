// SPDX-License-Identifier: Apache-2.0
// The server's side of one TLS connection without I/O. Clients show no certificate: who they are is for the layer
// above.
#pragma once

#include <memory>
#include <string>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "tls/session.hpp"

struct ssl_ctx_st;

namespace mesh::tls {

/// What all connections under one certificate share. Immutable after make(). TLS 1.2 or later, forward secrecy and
/// authenticated encryption only, no renegotiation, no compression, no session tickets.
class ServerContext {
 public:
  /// `certificate`: PEM text of the server's certificate and then its chain; `key`: PEM text of its private key.
  /// kInvalid if one of them is none, the key is encrypted, too weak or not that of the certificate. A certificate that
  /// has expired is taken: clients say so.
  static base::Result<std::shared_ptr<const ServerContext>> make(const std::string& certificate,
                                                                 const std::string& key);
  ~ServerContext();
  ServerContext(const ServerContext&) = delete;
  ServerContext& operator=(const ServerContext&) = delete;

  [[nodiscard]] base::WallTime expires() const { return expires_; }

 private:
  friend class ServerSession;
  explicit ServerContext(ssl_ctx_st* context) : context_(context) {}
  ssl_ctx_st* context_;
  base::WallTime expires_{};
};

class ServerSession final : public Session {
 public:
  explicit ServerSession(std::shared_ptr<const ServerContext> context);

 private:
  std::shared_ptr<const ServerContext> context_;
};

}  // namespace mesh::tls
