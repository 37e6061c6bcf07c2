// SPDX-License-Identifier: Apache-2.0
// The client's side of one TLS connection without I/O. Chain, name and expiry are verified unless that is switched off;
// what went wrong is said in words an operator knows.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "tls/certificate.hpp"
#include "tls/library.hpp"
#include "tls/session.hpp"
#include "tls/session_cache.hpp"
#include "tls/svid.hpp"

struct ssl_ctx_st;

namespace mesh::tls {

class ClientSession;

/// What all connections under one configuration share. Immutable after make() but for the sessions that are to be
/// resumed: with those it belongs to one thread. TLS 1.2 or later.
class ClientContext {
 public:
  struct Options {
    std::string ca_file;                             ///< PEM of who issues certificates of servers ...
    std::shared_ptr<const Authorities> authorities;  ///< ... or these; neither: the system's trust store.
    std::shared_ptr<const Trust> trust{};            ///< Instead of all: servers show X509-SVIDs.
    bool verify = true;
    bool resume = false;                               ///< Sessions, with the endpoints that gave them.
    std::vector<std::string> alpn{"http/1.1"};         ///< Preferred first; empty: not negotiated.
    std::shared_ptr<const Certificate> certificate{};  ///< To show; null: none.
    bool tls12 = true;                                 ///< Besides TLS 1.3.
    std::shared_ptr<const Library> library = Library::shared();
  };
  /// kInvalid or kNotFound if ca_file can't be read or holds no certificate; kInvalid if the library refuses the
  /// certificate.
  static base::Result<std::shared_ptr<const ClientContext>> make(const Options& options);
  ~ClientContext();
  ClientContext(const ClientContext&) = delete;
  ClientContext& operator=(const ClientContext&) = delete;

  /// As ServerContext::refuses(), of the SVID that a server showed.
  [[nodiscard]] std::string_view refuses(const ClientSession& session) const;

 private:
  friend class ClientSession;
  friend struct ClientCallbacks;
  ClientContext(ssl_ctx_st* context, const Options& options)
      : library_(options.library),
        context_(context),
        verify_(options.verify),
        lists_end_(options.authorities ? options.authorities->lists_end() : std::nullopt) {}
  std::shared_ptr<const Library> library_;
  ssl_ctx_st* context_;
  bool verify_;
  std::optional<base::WallTime> lists_end_;  ///< Of options.authorities.
  std::optional<TrustStores> stores_;        ///< Of options.trust.
  mutable SessionCache sessions_;            ///< Of options.resume.
};

class ClientSession final : public Session {
 public:
  /// `server_name`: DNS name (sent as SNI) or IP address; the certificate must be for it. Of no account where servers
  /// show SVIDs. `endpoint`: whose session under this name may be resumed, as text of any kind; empty: none is.
  ClientSession(std::shared_ptr<const ClientContext> context, const std::string& server_name,
                const std::string& endpoint = {});
  ~ClientSession();

  /// What the server showed, verified or not; nothing if it did not come to that.
  [[nodiscard]] std::optional<CertificateFacts> peer() const;
  /// That the certificate says, in this handshake or in the one that is resumed, where it is an SVID.
  [[nodiscard]] std::optional<SpiffeId> peer_id() const;

 private:
  friend struct ClientCallbacks;
  friend class ClientContext;
  std::shared_ptr<const ClientContext> context_;
  std::optional<CertificateFacts> refused_;  ///< What was shown and not taken.
  std::string server_;                       ///< Whose sessions are resumed.
  base::WallTime verified_until_{};
};

}  // namespace mesh::tls
