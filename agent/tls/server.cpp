// SPDX-License-Identifier: Apache-2.0
#include "tls/server.hpp"

#include <openssl/core_names.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "tls/context.hpp"
#include "tls/openssl.hpp"
#include "tls/verify.hpp"

namespace mesh::tls {
namespace {

constexpr std::string_view kOnlyChallenge{
    "\0\x0b\x0a"
    "acme-tls/1",
    13};                                      // protocols as a hello lists them
constexpr std::size_t kVerifiedMax = 10'000;  // certificates of clients; then all are forgotten

/// SHA-256 over parts with their lengths.
std::string digest_of(std::initializer_list<std::string_view> parts) {
  std::string all;
  for (const std::string_view part : parts) all += std::to_string(part.size()) + ':' + std::string(part);
  std::string digest(EVP_MAX_MD_SIZE, '\0');
  unsigned size = 0;
  MESH_ASSERT(EVP_Digest(all.data(), all.size(), reinterpret_cast<unsigned char*>(digest.data()), &size, EVP_sha256(),
                         nullptr) == 1);
  digest.resize(size);
  return digest;
}

/// The certificates that one name has.
struct Pair {
  const Certificate* rsa = nullptr;
  const Certificate* other = nullptr;
  auto operator<=>(const Pair&) const = default;

  void take(const Certificate& certificate) {
    const Certificate*& place = certificate.is_rsa() ? rsa : other;
    if (place == nullptr) place = &certificate;
  }
};

}  // namespace

struct ServerCallbacks {
  static ServerSession& session(SSL* ssl) { return *static_cast<ServerSession*>(SSL_get_app_data(ssl)); }

  /// Remembers the name, and changes to its certificates.
  static int hello(SSL* ssl, int* alert, void*) {
    read_name(ssl);
    ServerSession& self = session(ssl);
    self.answers_challenge_ = answer_challenge(ssl, self);
    if (self.answers_challenge_) return SSL_CLIENT_HELLO_SUCCESS;
    if (self.context_->options_.certificates.empty()) {
      *alert = SSL_AD_UNRECOGNIZED_NAME;
      return SSL_CLIENT_HELLO_ERROR;
    }
    if (SSL_CTX* context = self.context_->context_for(self.server_name_); context != SSL_get_SSL_CTX(ssl)) {
      SSL_set_SSL_CTX(ssl, context);
    }
    return SSL_CLIENT_HELLO_SUCCESS;
  }

  static void read_name(SSL* ssl) {
    const unsigned char* extension = nullptr;
    std::size_t size = 0;
    // A list with one entry: its length in two bytes, kind (0: host name), length in two bytes, name. What looks
    // otherwise is refused by the library when it reads it itself.
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &extension, &size) != 1 || size <= 5 ||
        extension[2] != TLSEXT_NAMETYPE_host_name ||
        static_cast<std::size_t>(extension[3] << 8 | extension[4]) != size - 5) {
      return;
    }
    session(ssl).server_name_ = normal_name({reinterpret_cast<const char*>(extension) + 5, size - 5});
  }

  /// Shows a challenge's certificate, if it is one that the client wants.
  static bool answer_challenge(SSL* ssl, const ServerSession& self) {
    const ServerOptions& options = self.context_->options_;
    const unsigned char* extension = nullptr;
    std::size_t size = 0;
    if (!options.challenges ||
        SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &extension, &size) != 1 ||
        std::string_view(reinterpret_cast<const char*>(extension), size) != kOnlyChallenge) {
      return false;
    }
    const auto certificate = options.challenges->find(self.server_name_);
    if (!certificate) return false;
    OSSL_LIB_CTX* library = self.context_->library_->get();
    SSL_set_verify(ssl, SSL_VERIFY_NONE, nullptr);
    return SSL_use_certificate(ssl, read_chain(library, *certificate).front().get()) == 1 &&
           SSL_use_PrivateKey(ssl, read_key(library, *certificate).get()) == 1;
  }

  static int alpn(SSL* ssl, const unsigned char** chosen, unsigned char* chosen_size, const unsigned char* offered,
                  unsigned offered_size, void*) {
    const ServerSession& self = session(ssl);
    if (self.answers_challenge_) {
      *chosen = offered + 1;
      *chosen_size = static_cast<unsigned char>(kChallengeProtocol.size());
      return SSL_TLSEXT_ERR_OK;
    }
    const std::string& own = self.context_->alpn_;
    if (own.empty()) return SSL_TLSEXT_ERR_NOACK;
    unsigned char* found = nullptr;
    if (SSL_select_next_proto(&found, chosen_size, reinterpret_cast<const unsigned char*>(own.data()),
                              static_cast<unsigned>(own.size()), offered, offered_size) != OPENSSL_NPN_NEGOTIATED) {
      return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *chosen = found;
    return SSL_TLSEXT_ERR_OK;
  }

  /// Follows the chain of a client's certificate unless that was done a short while ago. What was good stays good while
  /// the chain and the revocation lists are valid: those of this context never change.
  static int verify(X509_STORE_CTX* chain, void* of) {
    const ServerContext& context = *static_cast<const ServerContext*>(of);
    std::string digest(EVP_MAX_MD_SIZE, '\0');
    unsigned size = 0;
    if (X509_digest(X509_STORE_CTX_get0_cert(chain), EVP_sha256(), reinterpret_cast<unsigned char*>(digest.data()),
                    &size) != 1) {
      return 0;
    }
    digest.resize(size);
    const base::WallTime now = base::wall_now();
    const auto known = context.verified_.find(digest);
    if (known != context.verified_.end() && now < known->second) {
      X509_STORE_CTX_set_error(chain, X509_V_OK);
      return 1;
    }
    base::WallTime until{};
    if (context.stores_) {
      SSL* ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
      const auto verdict = context.stores_->verify(X509_STORE_CTX_get0_cert(chain),
                                                   X509_STORE_CTX_get0_untrusted(chain), PeerSide::kClient);
      if (!verdict.refusal.empty()) {
        session(ssl).refuse_peer(verdict.refusal);
        X509_STORE_CTX_set_error(chain, static_cast<int>(verdict.fault));
        return 0;
      }
      until = verdict.until;
      X509_STORE_CTX_set_error(chain, X509_V_OK);
    } else {
      if (X509_verify_cert(chain) != 1) return 0;
      until = verified_until(chain, context.options_.authorities->lists_end());
    }
    if (context.verified_.size() >= kVerifiedMax) context.verified_.clear();
    context.verified_[digest] = until;
    return 1;
  }

  /// A ticket keeps what was verified when it was sealed; it must not outlive the certificate or the lists.
  static SSL_TICKET_RETURN opened(SSL* ssl, SSL_SESSION* resumed, const unsigned char*, std::size_t,
                                  SSL_TICKET_STATUS status, void*) {
    const bool good = status == SSL_TICKET_SUCCESS || status == SSL_TICKET_SUCCESS_RENEW;
    if (!good) return status == SSL_TICKET_NONE ? SSL_TICKET_RETURN_IGNORE : SSL_TICKET_RETURN_IGNORE_RENEW;
    const ServerOptions& options = session(ssl).context_->options_;
    const X509* shown = SSL_SESSION_get0_peer(resumed);
    if (shown != nullptr && X509_cmp_current_time(X509_get0_notAfter(shown)) < 0) return SSL_TICKET_RETURN_IGNORE_RENEW;
    const auto out_of_date = [](const Authorities& authorities) {
      return authorities.lists_end().value_or(base::WallTime::max()) < base::wall_now();
    };
    if (options.authorities && out_of_date(*options.authorities)) return SSL_TICKET_RETURN_IGNORE_RENEW;
    if (options.trust &&
        std::ranges::any_of(options.trust->bundles(), [&](const auto& one) { return out_of_date(*one.second); })) {
      return SSL_TICKET_RETURN_IGNORE_RENEW;
    }
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
  }

  /// AES-256-CBC and HMAC-SHA-256, as the library's own tickets.
  static int ticket(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher, EVP_MAC_CTX* mac,
                    int seal) {
    const ServerContext& context = *session(ssl).context_;
    const TicketKeys* keys = context.options_.tickets.get();
    if (keys == nullptr || keys->keys.empty()) return 0;
    auto key = keys->keys.begin();
    if (seal != 0) {
      if (RAND_bytes_ex(context.library_->get(), iv, EVP_MAX_IV_LENGTH, 0) != 1) return -1;
      std::memcpy(name, key->name.data(), key->name.size());
    } else {
      key = std::ranges::find_if(keys->keys,
                                 [&](const TicketKey& k) { return std::memcmp(name, k.name.data(), 16) == 0; });
      if (key == keys->keys.end()) return 0;  // of nobody we know, or long ago
    }
    OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, const_cast<char*>("SHA256"), 0),
                               OSSL_PARAM_construct_end()};
    if (EVP_MAC_init(mac, key->mac.data(), key->mac.size(), parameters) != 1) return -1;
    if (EVP_CipherInit_ex(cipher, context.library_->ticket_cipher(), nullptr, key->cipher.data(), iv, seal) != 1)
      return -1;
    // 2: take it and seal a new one. Clients of TLS 1.3 use a ticket once.
    return seal == 0 && (key != keys->keys.begin() || SSL_version(ssl) == TLS1_3_VERSION) ? 2 : 1;
  }
};

base::Result<std::shared_ptr<const ServerContext>> ServerContext::make(const ServerOptions& options,
                                                                       std::shared_ptr<const Library> library) {
  MESH_ASSERT((!options.certificates.empty() || options.challenges) &&
              (options.verify == ClientVerify::kNone || options.authorities || options.trust));
  std::shared_ptr<ServerContext> made(new ServerContext(options, std::move(library)));
  for (const std::string& protocol : options.alpn) {
    made->alpn_ += static_cast<char>(protocol.size());
    made->alpn_ += protocol;
  }
  made->scope_ = digest_of({options.scope, std::to_string(static_cast<int>(options.verify)),
                            options.authorities ? options.authorities->certificates_pem() : "",
                            options.authorities ? options.authorities->revoked_pem() : "",
                            options.trust ? options.trust->mark() : ""});
  if (options.trust) made->stores_.emplace(options.trust, made->library_->get());

  // For each name the first RSA and the first other certificate that have it; the default is that of the first
  // certificate's first name.
  std::vector<Pair> pairs = {Pair{}};
  if (!options.certificates.empty()) pairs[0].take(*options.certificates.front());
  for (const auto& certificate : options.certificates) {
    for (const std::string& name : certificate->facts().dns_names) {
      const auto index = made->names_.add(name, pairs.size());
      if (!index) continue;  // one that nobody can ask for
      if (*index == pairs.size()) pairs.emplace_back();
      pairs[*index].take(*certificate);
    }
  }
  if (pairs.size() > 1 && !options.certificates.front()->facts().dns_names.empty()) {
    pairs[0] = pairs[made->names_.find(options.certificates.front()->facts().dns_names.front()).value_or(0)];
  }
  std::map<Pair, SSL_CTX*> contexts;
  for (const Pair& pair : pairs) {
    SSL_CTX*& context = contexts[pair];
    if (context == nullptr) {
      context = MESH_TRY(made->make_context(pair.rsa, pair.other));
    } else {
      SSL_CTX_up_ref(context);
    }
    made->contexts_.push_back(context);
  }
  return made;
}

base::Result<SSL_CTX*> ServerContext::make_context(const Certificate* rsa, const Certificate* other) const {
  std::unique_ptr<SSL_CTX, Freer<SSL_CTX_free>> owner(SSL_CTX_new_ex(library_->get(), nullptr, TLS_server_method()));
  MESH_ASSERT(owner != nullptr);
  SSL_CTX* context = owner.get();
  SSL_CTX_set_min_proto_version(context, options_.tls12 ? TLS1_2_VERSION : TLS1_3_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                   SSL_OP_PRIORITIZE_CHACHA | SSL_OP_IGNORE_UNEXPECTED_EOF);
  // The chain is what the file says: else the library looks for issuers in every handshake.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  set_algorithms(context);
  SSL_CTX_set_session_id_context(context, reinterpret_cast<const unsigned char*>(scope_.data()),
                                 static_cast<unsigned>(scope_.size()));
  if (options_.tickets == nullptr) {
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(context, 0);
  } else {
    SSL_CTX_set_timeout(context, std::chrono::seconds(kTicketLife).count());
    SSL_CTX_set_tlsext_ticket_key_evp_cb(context, ServerCallbacks::ticket);
    SSL_CTX_set_session_ticket_cb(context, nullptr, ServerCallbacks::opened, nullptr);
  }
  SSL_CTX_set_client_hello_cb(context, ServerCallbacks::hello, nullptr);
  if (!alpn_.empty() || options_.challenges) SSL_CTX_set_alpn_select_cb(context, ServerCallbacks::alpn, nullptr);
  if (options_.verify != ClientVerify::kNone) {
    if (options_.authorities) trust(context, *options_.authorities);
    SSL_CTX_set_verify_depth(context, kVerifyDepth);
    SSL_CTX_set_cert_verify_callback(context, ServerCallbacks::verify, const_cast<ServerContext*>(this));
    SSL_CTX_set_verify(
        context, SSL_VERIFY_PEER | (options_.verify == ClientVerify::kRequire ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
        nullptr);
  }
  for (const Certificate* certificate : {rsa, other}) {
    if (certificate != nullptr) MESH_CHECK(use(context, library_->get(), *certificate));
  }
  return owner.release();
}

base::WallTime ServerContext::expires() const {
  base::WallTime first = base::WallTime::max();
  for (const auto& certificate : options_.certificates) first = std::min(first, certificate->facts().chain_ends);
  return first;
}

SSL_CTX* ServerContext::context_for(std::string_view server_name) const {
  return contexts_[names_.find(server_name).value_or(0)];
}

ServerContext::~ServerContext() {
  for (SSL_CTX* context : contexts_) SSL_CTX_free(context);
}

ServerSession::ServerSession(std::shared_ptr<const ServerContext> context)
    : Session(SSL_new(context->contexts_.front())), context_(std::move(context)) {
  SSL_set_app_data(ssl(), this);
  SSL_set_accept_state(ssl());
}

std::string_view ServerContext::refuses(const ServerSession& session) const {
  if (!stores_) return {};
  X509* shown = SSL_get0_peer_certificate(session.ssl());
  if (shown == nullptr) return "no certificate";
  return stores_->verify(shown, SSL_get_peer_cert_chain(session.ssl()), PeerSide::kClient).refusal;
}

std::optional<SpiffeId> ServerSession::peer_id() const {
  X509* shown = SSL_get0_peer_certificate(ssl());
  if (shown == nullptr) return std::nullopt;
  SvidCheck check = check_svid(shown);
  return check.fault == SvidFault::kNone ? std::optional(std::move(check.id)) : std::nullopt;
}

std::optional<PeerFacts> ServerSession::peer() const {
  X509* shown = SSL_get0_peer_certificate(ssl());
  return shown == nullptr ? std::nullopt : std::optional(facts_of(shown));
}

}  // namespace mesh::tls
