// SPDX-License-Identifier: Apache-2.0
// The client's side of one TLS connection without I/O. Chain, name and expiry are verified unless that is switched off;
// what went wrong is said in words an operator knows.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "tls/session.hpp"

struct ssl_ctx_st;

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

class ClientSession final : public Session {
 public:
  /// `server_name`: DNS name (sent as SNI) or IP address; the certificate must be for it.
  ClientSession(std::shared_ptr<const ClientContext> context, const std::string& server_name);

 private:
  std::shared_ptr<const ClientContext> context_;
};

}  // namespace mesh::tls
