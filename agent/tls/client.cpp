// SPDX-License-Identifier: Apache-2.0
#include "tls/client.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <array>

#include "base/address.hpp"

namespace mesh::tls {
namespace {

/// Length-prefixed protocol names, as ALPN wants them.
constexpr std::string_view kHttp1Protocols("\x08http/1.1");
constexpr std::string_view kHttp2Protocols("\x02h2");

std::string verify_error(long result) {
  switch (result) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return "certificate expired";
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return "certificate not yet valid";
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
      return "self-signed certificate";
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return "name mismatch";
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      return "unknown issuer";
    default:
      return X509_verify_cert_error_string(result);
  }
}

std::string library_error() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  if (ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_WRONG_VERSION_NUMBER) return "not TLS";
  const char* reason = ERR_reason_error_string(code);
  return reason == nullptr ? "TLS failed" : reason;
}

}  // namespace

base::Result<std::shared_ptr<const ClientContext>> ClientContext::make(const Options& options) {
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  MESH_ASSERT(context != nullptr);
  std::shared_ptr<const ClientContext> made(new ClientContext(context, options.verify));
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_verify(context, options.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  const std::string_view protocols = options.alpn == Alpn::kHttp2 ? kHttp2Protocols : kHttp1Protocols;
  SSL_CTX_set_alpn_protos(context, reinterpret_cast<const unsigned char*>(protocols.data()),
                          static_cast<unsigned>(protocols.size()));
  if (options.ca_file.empty()) {
    SSL_CTX_set_default_verify_paths(context);
  } else if (SSL_CTX_load_verify_locations(context, options.ca_file.c_str(), nullptr) != 1) {
    return base::fail(base::ErrorKind::kInvalid,
                      "load CA certificates from " + options.ca_file + ": " + library_error(),
                      "name a readable PEM file with at least one certificate");
  }
  return made;
}

ClientContext::~ClientContext() { SSL_CTX_free(context_); }

ClientSession::ClientSession(std::shared_ptr<const ClientContext> context, const std::string& server_name)
    : context_(std::move(context)),
      ssl_(SSL_new(context_->context_)),
      from_peer_(BIO_new(BIO_s_mem())),
      to_peer_(BIO_new(BIO_s_mem())) {
  MESH_ASSERT(ssl_ != nullptr && from_peer_ != nullptr && to_peer_ != nullptr);
  SSL_set_bio(ssl_, from_peer_, to_peer_);
  SSL_set_connect_state(ssl_);
  if (base::IpAddress::parse(server_name)) {
    if (context_->verify_) X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_), server_name.c_str());
  } else {
    SSL_set_tlsext_host_name(ssl_, server_name.c_str());
    if (context_->verify_) {
      SSL_set_hostflags(ssl_, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
      SSL_set1_host(ssl_, server_name.c_str());
    }
  }
  handshake();
}

ClientSession::~ClientSession() { SSL_free(ssl_); }

void ClientSession::sent(std::size_t count) {
  sent_ += count;
  if (sent_ < outgoing_.size()) return;
  outgoing_.clear();
  sent_ = 0;
}

ClientSession::State ClientSession::feed(std::span<const std::byte> bytes, std::string& plain) {
  BIO_write(from_peer_, bytes.data(), static_cast<int>(bytes.size()));
  if (state_ == State::kHandshake) handshake();
  while (state_ == State::kOpen) {
    std::array<char, 4096> buffer;
    ERR_clear_error();
    const int count = SSL_read(ssl_, buffer.data(), buffer.size());
    if (count > 0) {
      plain.append(buffer.data(), static_cast<std::size_t>(count));
      continue;
    }
    const int error = SSL_get_error(ssl_, count);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) break;
    if (error == SSL_ERROR_ZERO_RETURN) {
      state_ = State::kClosed;
    } else {
      fail();
    }
  }
  collect_output();
  return state_;
}

void ClientSession::write(std::span<const std::byte> plain) {
  if (plain.empty()) return;
  ERR_clear_error();
  if (SSL_write(ssl_, plain.data(), static_cast<int>(plain.size())) <= 0) fail();
  collect_output();
}

std::string_view ClientSession::alpn() const {
  const unsigned char* name = nullptr;
  unsigned length = 0;
  SSL_get0_alpn_selected(ssl_, &name, &length);
  return {reinterpret_cast<const char*>(name), length};
}

void ClientSession::handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_);
  if (result == 1) {
    state_ = State::kOpen;
  } else if (const int error = SSL_get_error(ssl_, result);
             error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
    fail();
  }
  collect_output();
}

void ClientSession::fail() {
  state_ = State::kFailed;
  const long verdict = context_->verify_ ? SSL_get_verify_result(ssl_) : X509_V_OK;
  error_ = verdict == X509_V_OK ? library_error() : verify_error(verdict);
  ERR_clear_error();
}

/// Moves what OpenSSL wants to send behind what is still to be sent.
void ClientSession::collect_output() {
  char* data = nullptr;
  const long size = BIO_get_mem_data(to_peer_, &data);
  if (size <= 0) return;
  outgoing_.append(data, static_cast<std::size_t>(size));
  BIO_reset(to_peer_);
}

}  // namespace mesh::tls
