// SPDX-License-Identifier: Apache-2.0
#include "tls/session.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <array>

namespace mesh::tls {
namespace {

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

}  // namespace

std::string library_error() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  if (ERR_GET_LIB(code) == ERR_LIB_SSL) {
    const int reason = ERR_GET_REASON(code);
    if (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST) return "not TLS";
  }
  const char* reason = ERR_reason_error_string(code);
  return reason == nullptr ? "TLS failed" : reason;
}

Session::Session(ssl_st* ssl) : ssl_(ssl), from_peer_(BIO_new(BIO_s_mem())), to_peer_(BIO_new(BIO_s_mem())) {
  MESH_ASSERT(ssl_ != nullptr && from_peer_ != nullptr && to_peer_ != nullptr);
  SSL_set_bio(ssl_, from_peer_, to_peer_);
}

Session::~Session() { SSL_free(ssl_); }

void Session::sent(std::size_t count) {
  sent_ += count;
  if (sent_ < outgoing_.size()) return;
  outgoing_.clear();
  sent_ = 0;
}

Session::State Session::feed(std::span<const std::byte> bytes, std::string& plain) {
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

void Session::write(std::span<const std::byte> plain) {
  if (plain.empty()) return;
  ERR_clear_error();
  if (SSL_write(ssl_, plain.data(), static_cast<int>(plain.size())) <= 0) fail();
  collect_output();
}

void Session::handshake() {
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

void Session::fail() {
  state_ = State::kFailed;
  const long verdict = SSL_get_verify_mode(ssl_) == SSL_VERIFY_NONE ? X509_V_OK : SSL_get_verify_result(ssl_);
  error_ = verdict == X509_V_OK ? library_error() : verify_error(verdict);
  ERR_clear_error();
}

/// Moves what OpenSSL wants to send behind what is still to be sent.
void Session::collect_output() {
  char* data = nullptr;
  const long size = BIO_get_mem_data(to_peer_, &data);
  if (size <= 0) return;
  outgoing_.append(data, static_cast<std::size_t>(size));
  BIO_reset(to_peer_);
}

}  // namespace mesh::tls
