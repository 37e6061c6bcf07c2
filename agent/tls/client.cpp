// SPDX-License-Identifier: Apache-2.0
#include "tls/client.hpp"

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/address.hpp"
#include "tls/context.hpp"
#include "tls/verify.hpp"

namespace mesh::tls {
namespace {

/// Length-prefixed protocol names, as ALPN wants them.
std::string alpn_list(const std::vector<std::string>& protocols) {
  std::string list;
  for (const std::string& protocol : protocols) list += static_cast<char>(protocol.size()) + protocol;
  return list;
}

}  // namespace

struct ClientCallbacks {
  /// The library forgets a certificate that it refuses. Of a good chain, that of the server itself comes last.
  static int verified(int good, X509_STORE_CTX* chain) {
    const auto* ssl = static_cast<const SSL*>(X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
    ClientSession& session = *static_cast<ClientSession*>(SSL_get_app_data(ssl));
    if (good == 1) {
      if (X509_STORE_CTX_get_error_depth(chain) == 0) {
        session.verified_until_ = verified_until(chain, session.context_->lists_end_);
      }
      return good;
    }
    X509* shown = X509_STORE_CTX_get0_cert(chain);
    if (shown != nullptr) session.refused_ = facts_of(shown);
    return good;
  }

  /// Of servers that show SVIDs.
  static int verify(X509_STORE_CTX* chain, void* of) {
    const auto* ssl = static_cast<const SSL*>(X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
    ClientSession& session = *static_cast<ClientSession*>(SSL_get_app_data(ssl));
    X509* shown = X509_STORE_CTX_get0_cert(chain);
    const auto verdict = static_cast<const ClientContext*>(of)->stores_->verify(
        shown, X509_STORE_CTX_get0_untrusted(chain), PeerSide::kServer);
    if (!verdict.refusal.empty()) {
      session.refuse_peer(verdict.refusal);
      session.refused_ = facts_of(shown);
      X509_STORE_CTX_set_error(chain, static_cast<int>(verdict.fault));
      return 0;
    }
    session.verified_until_ = verdict.until;
    X509_STORE_CTX_set_error(chain, X509_V_OK);
    return 1;
  }

  static int keep_session(SSL* ssl, SSL_SESSION* given) {
    const ClientSession& session = *static_cast<const ClientSession*>(SSL_get_app_data(ssl));
    if (!session.server_.empty()) session.context_->sessions_.put(session.server_, given, session.verified_until_);
    return 0;  // the reference stays the library's
  }
};

base::Result<std::shared_ptr<const ClientContext>> ClientContext::make(const Options& options) {
  SSL_CTX* context = SSL_CTX_new_ex(options.library->get(), nullptr, TLS_client_method());
  MESH_ASSERT(context != nullptr);
  const std::shared_ptr<ClientContext> made(new ClientContext(context, options));
  SSL_CTX_set_min_proto_version(context, options.tls12 ? TLS1_2_VERSION : TLS1_3_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_verify(context, options.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE,
                     options.verify ? ClientCallbacks::verified : nullptr);
  const std::string protocols = alpn_list(options.alpn);
  SSL_CTX_set_alpn_protos(context, reinterpret_cast<const unsigned char*>(protocols.data()),
                          static_cast<unsigned>(protocols.size()));
  if (options.resume) {
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, ClientCallbacks::keep_session);
  }
  if (options.trust) {
    made->stores_.emplace(options.trust, options.library->get());
    SSL_CTX_set_cert_verify_callback(context, ClientCallbacks::verify, made.get());
  } else if (options.authorities) {
    trust(context, *options.authorities);
  } else if (options.ca_file.empty()) {
    SSL_CTX_set1_cert_store(context, options.library->system_trust());
  } else if (SSL_CTX_load_verify_locations(context, options.ca_file.c_str(), nullptr) != 1) {
    return base::fail(base::ErrorKind::kInvalid,
                      "load CA certificates from " + options.ca_file + ": " + library_error(),
                      "name a readable PEM file with at least one certificate");
  }
  if (options.certificate) MESH_CHECK(use(context, options.library->get(), *options.certificate));
  return made;
}

ClientContext::~ClientContext() { SSL_CTX_free(context_); }

ClientSession::ClientSession(std::shared_ptr<const ClientContext> context, const std::string& server_name,
                             const std::string& endpoint)
    : Session(SSL_new(context->context_)), context_(std::move(context)) {
  SSL_set_app_data(ssl(), this);
  SSL_set_connect_state(ssl());
  if (!endpoint.empty()) {
    server_ = server_name + " " + endpoint;  // what was verified was that name
    const auto known = context_->sessions_.find(server_, base::wall_now());
    if (known.session != nullptr) {
      SSL_set_session(ssl(), known.session);
      SSL_SESSION_free(known.session);
      verified_until_ = known.until;
    }
  }
  if (context_->stores_) {
    // Names count for nothing.
  } else if (base::IpAddress::parse(server_name)) {
    if (context_->verify_) X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl()), server_name.c_str());
  } else {
    SSL_set_tlsext_host_name(ssl(), server_name.c_str());
    if (context_->verify_) {
      SSL_set_hostflags(ssl(), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
      SSL_set1_host(ssl(), server_name.c_str());
    }
  }
  handshake();
}

ClientSession::~ClientSession() {
  // Perhaps it was the session that the server did not like.
  const bool failed = state() == State::kHandshake || state() == State::kFailed;
  if (failed && !server_.empty()) context_->sessions_.drop(server_);
}

std::optional<CertificateFacts> ClientSession::peer() const {
  if (refused_) return refused_;
  X509* shown = SSL_get0_peer_certificate(ssl());
  return shown == nullptr ? std::nullopt : std::optional(facts_of(shown));
}

std::optional<SpiffeId> ClientSession::peer_id() const {
  X509* shown = SSL_get0_peer_certificate(ssl());
  if (shown == nullptr) return std::nullopt;
  SvidCheck check = check_svid(shown);
  return check.fault == SvidFault::kNone ? std::optional(std::move(check.id)) : std::nullopt;
}

std::string_view ClientContext::refuses(const ClientSession& session) const {
  if (!stores_) return {};
  X509* shown = SSL_get0_peer_certificate(session.ssl());
  if (shown == nullptr) return "no certificate";
  return stores_->verify(shown, SSL_get_peer_cert_chain(session.ssl()), PeerSide::kServer).refusal;
}

}  // namespace mesh::tls
