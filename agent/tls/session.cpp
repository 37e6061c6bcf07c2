// SPDX-License-Identifier: Apache-2.0
#include "tls/session.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "tls/openssl.hpp"
#include "tls/verify.hpp"

namespace mesh::tls {
namespace {

constexpr std::size_t kRecordMax = 16 * 1024;
/// Header, explicit nonce, content type and tag of the ciphers that are offered, and some to spare.
constexpr std::size_t kRecordOverhead = 64;
/// Plain bytes of a record that fits one packet, whichever the family and options.
constexpr std::size_t kSmallRecord = 1400;
/// So many bytes go in small records: about what a peer's first window takes.
constexpr std::size_t kSmallRecordsTotal = 10 * kSmallRecord;
constexpr int kAlertReasons = SSL_AD_REASON_OFFSET;  // a reason above it is an alert of the peer

Failure failure_of(unsigned long code) {
  if (ERR_GET_LIB(code) != ERR_LIB_SSL) return Failure::kOther;
  const int reason = ERR_GET_REASON(code);
  if (reason > kAlertReasons) return Failure::kAlert;
  switch (reason) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
      return Failure::kNotTls;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_VERSION_TOO_HIGH:
    case SSL_R_UNKNOWN_PROTOCOL:
      return Failure::kVersion;
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SHARED_GROUPS:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
      return Failure::kCipher;
    case SSL_R_NO_APPLICATION_PROTOCOL:
      return Failure::kAlpn;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return Failure::kNoCertificate;
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
      return Failure::kCertificate;
    case SSL_R_BAD_RECORD_TYPE:
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_ENCRYPTED_LENGTH_TOO_LONG:
    case SSL_R_DATA_LENGTH_TOO_LONG:
    case SSL_R_UNEXPECTED_MESSAGE:
    case SSL_R_UNEXPECTED_RECORD:
    case SSL_R_LENGTH_MISMATCH:
    case SSL_R_BAD_EXTENSION:
    case SSL_R_EXCESSIVE_MESSAGE_SIZE:
      return Failure::kDamaged;
    default:
      return Failure::kOther;
  }
}

std::string words_of(Failure failure, unsigned long code) {
  switch (failure) {
    case Failure::kNotTls:
      return "not TLS";
    case Failure::kVersion:
      return "no TLS version in common";
    case Failure::kNoCertificate:
      return "the peer showed no certificate";
    case Failure::kAlpn:
      return "no application protocol in common";
    case Failure::kAlert:
      return std::string("the peer gave up with the alert '") +
             SSL_alert_desc_string_long(ERR_GET_REASON(code) - kAlertReasons) + "'";
    default: {
      if (ERR_GET_REASON(code) == SSL_R_CALLBACK_FAILED) return "there is no certificate yet";  // tls/server.cpp, hello
      const char* reason = ERR_reason_error_string(code);
      return reason == nullptr ? "TLS failed" : reason;
    }
  }
}

}  // namespace

/// The BIO that a session's library object reads from and writes to: the caller's bytes, and the output block.
struct SessionBio {
  static int read(BIO* bio, char* out, std::size_t size, std::size_t* count) {
    Session& session = *static_cast<Session*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    *count = std::min(size, session.input_.size());
    if (*count == 0) {
      BIO_set_retry_read(bio);
      return 0;
    }
    std::memcpy(out, session.input_.data(), *count);
    session.input_ = session.input_.subspan(*count);
    return 1;
  }

  static int write(BIO* bio, const char* in, std::size_t size, std::size_t* count) {
    static_cast<Session*>(BIO_get_data(bio))->put(std::as_bytes(std::span(in, size)));
    *count = size;
    return 1;
  }

  static long control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

  static const BIO_METHOD* method() {
    static BIO_METHOD* const made = [] {
      BIO_METHOD* method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "session");
      MESH_ASSERT(method != nullptr);
      BIO_meth_set_read_ex(method, read);
      BIO_meth_set_write_ex(method, write);
      BIO_meth_set_ctrl(method, control);
      return method;
    }();
    return made;
  }
};

std::string_view to_string(Failure failure) {
  constexpr std::array<std::string_view, kFailures> kNames = {
      "none", "not_tls", "version", "cipher", "alpn", "certificate", "no_certificate", "alert", "damaged", "other"};
  return kNames[static_cast<std::size_t>(failure)];
}

std::string library_error() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  return words_of(failure_of(code), code);
}

Session::Session(ssl_st* ssl) : ssl_(ssl) {
  BIO* bio = BIO_new(SessionBio::method());
  MESH_ASSERT(ssl_ != nullptr && bio != nullptr);
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_, bio, bio);
}

Session::~Session() { SSL_free(ssl_); }

void Session::put(std::span<const std::byte> bytes) {
  if (!overflow_.empty() || bytes.size() > kOutputBytes - end_) {
    overflow_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return;
  }
  if (!block_) block_ = std::make_unique_for_overwrite<std::byte[]>(kOutputBytes);
  std::memcpy(block_.get() + end_, bytes.data(), bytes.size());
  end_ += bytes.size();
}

void Session::sent(std::size_t count) {
  MESH_ASSERT(count <= end_ - begin_);
  begin_ += count;
  if (begin_ < end_) return;
  begin_ = end_ = 0;
  if (overflow_.empty()) {
    block_.reset();
    return;
  }
  end_ = std::min(overflow_.size(), kOutputBytes);
  if (!block_) block_ = std::make_unique_for_overwrite<std::byte[]>(kOutputBytes);
  std::memcpy(block_.get(), overflow_.data(), end_);
  overflow_.erase(0, end_);
}

Session::Read Session::read(std::span<const std::byte> cipher, std::span<std::byte> plain) {
  return overflow_.empty() ? decrypt(cipher, plain) : Read{};
}

Session::State Session::feed(std::span<const std::byte> bytes, std::string& plain) {
  std::array<std::byte, 4096> buffer;
  for (bool more = true; more;) {
    const Read done = decrypt(bytes, buffer);
    bytes = bytes.subspan(done.taken);
    plain.append(reinterpret_cast<const char*>(buffer.data()), done.plain);
    more = done.plain == buffer.size();
  }
  return state_;
}

Session::Read Session::decrypt(std::span<const std::byte> cipher, std::span<std::byte> plain) {
  input_ = cipher;
  std::size_t filled = 0;
  if (state_ == State::kHandshake) handshake();
  while (state_ == State::kOpen && filled < plain.size()) {
    std::size_t count = 0;
    const int result = SSL_read_ex(ssl_, plain.data() + filled, plain.size() - filled, &count);
    if (result != 1) {
      stopped(result);
      break;
    }
    filled += count;
    // With room left the record is used up: without another one the next call would only find out that there is none.
    if (input_.empty()) break;
  }
  if (state_ == State::kClosed || state_ == State::kFailed) input_ = {};  // nothing counts any more
  const std::size_t taken = cipher.size() - input_.size();
  input_ = {};
  return {taken, filled};
}

std::size_t Session::write(std::span<const std::byte> plain) {
  MESH_ASSERT(state_ != State::kHandshake && !finished_);
  if (state_ == State::kFailed || !overflow_.empty()) return 0;
  std::size_t taken = 0;
  while (taken < plain.size()) {
    const std::size_t limit = written_since_rest_ < kSmallRecordsTotal ? kSmallRecord : kRecordMax;
    const std::size_t size = std::min(limit, plain.size() - taken);
    if (size + kRecordOverhead > kOutputBytes - end_) break;
    std::size_t count = 0;
    if (SSL_write_ex(ssl_, plain.data() + taken, size, &count) != 1) {
      fail();
      break;
    }
    taken += count;
    written_since_rest_ += count;
  }
  return taken;
}

void Session::finish() {
  MESH_ASSERT(state_ != State::kHandshake);
  if (std::exchange(finished_, true) || state_ == State::kFailed) return;
  SSL_shutdown(ssl_);  // only says it; does not wait for the peer
  ERR_clear_error();
}

void Session::handshake() {
  const int result = SSL_do_handshake(ssl_);
  if (result == 1) {
    state_ = State::kOpen;
  } else {
    stopped(result);
  }
}

/// A call of the library did not succeed: it waits for bytes, the peer is done, or it failed.
void Session::stopped(int result) {
  const int error = SSL_get_error(ssl_, result);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return;
  if (error == SSL_ERROR_ZERO_RETURN) {
    state_ = State::kClosed;
  } else {
    fail();
  }
}

void Session::fail() {
  state_ = State::kFailed;
  const unsigned long code = ERR_peek_last_error();
  failure_ = failure_of(code);
  const long verdict = SSL_get_verify_mode(ssl_) == SSL_VERIFY_NONE ? X509_V_OK : SSL_get_verify_result(ssl_);
  if (verdict != X509_V_OK && failure_ != Failure::kAlert) failure_ = Failure::kCertificate;
  if (failure_ != Failure::kCertificate) {
    error_ = words_of(failure_, code);
  } else {
    error_ = refusal_.empty() ? verify_error(verdict) : refusal_;
  }
  ERR_clear_error();
}

std::string_view Session::version() const { return SSL_get_version(ssl_); }

std::string_view Session::cipher() const {
  const SSL_CIPHER* cipher = SSL_get_current_cipher(ssl_);
  return cipher == nullptr ? "" : SSL_CIPHER_get_name(cipher);
}

bool Session::resumed() const { return SSL_session_reused(ssl_) == 1; }

std::string_view Session::alpn() const {
  const unsigned char* name = nullptr;
  unsigned length = 0;
  SSL_get0_alpn_selected(ssl_, &name, &length);
  return {reinterpret_cast<const char*>(name), length};
}

}  // namespace mesh::tls
