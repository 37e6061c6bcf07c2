// SPDX-License-Identifier: Apache-2.0
// The server's side of TLS connections without I/O.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "tls/certificate.hpp"
#include "tls/challenges.hpp"
#include "tls/library.hpp"
#include "tls/name_index.hpp"
#include "tls/session.hpp"
#include "tls/svid.hpp"
#include "tls/ticket_keys.hpp"

struct ssl_ctx_st;

namespace mesh::tls {

class ServerSession;

enum class ClientVerify : std::uint8_t { kNone, kOptional, kRequire };

/// What is the same on all workers. TLS 1.2 has forward secrecy and authenticated encryption only; there is no
/// renegotiation, no compression and no early data.
struct ServerOptions {
  /// At least one, unless there are challenges: then who wants anything else is refused. Which one a client gets: by
  /// the server name it asks for, exact before wildcard; the first is for clients that ask for none or for an unknown
  /// one. An RSA and another certificate for the same name go together: the client's signature algorithms decide.
  std::vector<std::shared_ptr<const Certificate>> certificates;
  bool tls12 = true;              ///< Besides TLS 1.3.
  std::vector<std::string> alpn;  ///< Preferred first; empty: not negotiated. A client that offers only others fails.
  ClientVerify verify = ClientVerify::kNone;
  std::shared_ptr<const Authorities> authorities;  ///< Whose certificates clients show; set unless kNone or `trust`.
  std::shared_ptr<const Trust> trust;              ///< Instead of them: clients show X509-SVIDs.
  std::shared_ptr<const TicketKeys> tickets;       ///< nullptr: no resumption.
  std::shared_ptr<const Challenges> challenges;    ///< To answer; nullptr: none.
  /// The listener's name: a session is resumed only where it, `verify` and the authorities are the same.
  std::string scope;
};

/// What all connections under one set of options share. Belongs to one thread, as the sessions do; a session keeps its
/// context alive, so that options are replaced without touching it.
class ServerContext {
 public:
  /// kInvalid if the library refuses a certificate that parse() took.
  static base::Result<std::shared_ptr<const ServerContext>> make(const ServerOptions& options,
                                                                 std::shared_ptr<const Library> library);
  ~ServerContext();
  ServerContext(const ServerContext&) = delete;
  ServerContext& operator=(const ServerContext&) = delete;

  [[nodiscard]] base::WallTime expires() const;  ///< Of the chain that ends first.
  /// Why the SVID that a client showed, perhaps to an earlier context, would be refused now; of static storage. Empty:
  /// it would not be.
  [[nodiscard]] std::string_view refuses(const ServerSession& session) const;

  /// For new handshakes: after rotate().
  void set_tickets(std::shared_ptr<const TicketKeys> tickets) const { options_.tickets = std::move(tickets); }

 private:
  friend class ServerSession;
  friend struct ServerCallbacks;
  ServerContext(ServerOptions options, std::shared_ptr<const Library> library)
      : library_(std::move(library)), options_(std::move(options)) {}
  base::Result<ssl_ctx_st*> make_context(const Certificate* rsa, const Certificate* other) const;
  [[nodiscard]] ssl_ctx_st* context_for(std::string_view server_name) const;

  std::shared_ptr<const Library> library_;
  mutable ServerOptions options_;
  /// Certificates of clients that were found good, by their SHA-256, until when that holds. A client connects again and
  /// again, and following its chain costs as much as the rest of a resumed handshake.
  mutable std::unordered_map<std::string, base::WallTime> verified_;
  std::optional<TrustStores> stores_;  ///< Of options_.trust.
  std::string alpn_;                   ///< As the library wants it: lengths before names.
  std::string scope_;                  ///< Digest of what `scope` of the options promises.
  std::vector<ssl_ctx_st*> contexts_;  ///< The first is the default; one may stand several times.
  NameIndex names_;                    ///< Into contexts_.
};

/// Who a client is, by its certificate.
using PeerFacts = CertificateFacts;

class ServerSession final : public Session {
 public:
  explicit ServerSession(std::shared_ptr<const ServerContext> context);

  /// What the client asked for, as normal_name() makes it; empty: nothing. Once it was read.
  [[nodiscard]] const std::string& server_name() const { return server_name_; }
  /// Of the verified certificate that the client showed, in this handshake or in the one that is resumed.
  [[nodiscard]] std::optional<PeerFacts> peer() const;
  /// The client only looked at the answer to a challenge: there is nothing to be said to it.
  [[nodiscard]] bool answers_challenge() const { return answers_challenge_; }
  /// That the certificate says, where it is an SVID.
  [[nodiscard]] std::optional<SpiffeId> peer_id() const;

 private:
  friend struct ServerCallbacks;
  friend class ServerContext;
  std::shared_ptr<const ServerContext> context_;
  std::string server_name_;
  bool answers_challenge_ = false;
};

}  // namespace mesh::tls
