// SPDX-License-Identifier: Apache-2.0
// One side of one TLS connection without I/O: OpenSSL between the caller's buffers. Which side it is, and what it
// verifies, is set up by tls/client.hpp and tls/server.hpp.
//
//   bytes from the peer ──read()──▶ plain bytes     plain bytes ──write()──▶ output() ──sent()── bytes to the peer
//
// Back-pressure: read() takes no more than what it has room for, write() no more than output() holds. An idle session
// holds no buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/error.hpp"

struct ssl_st;
struct bio_st;

namespace mesh::tls {

/// Bytes of output() that write() fills: four records of 16 KiB.
inline constexpr std::size_t kOutputBytes = 66 * 1024;

/// Why a session failed, as a label; Session::error() says it in words.
enum class Failure : std::uint8_t {
  kNone,
  kNotTls,         ///< Something else was spoken.
  kVersion,        ///< No version in common.
  kCipher,         ///< No cipher, group or signature in common.
  kAlpn,           ///< No protocol in common.
  kCertificate,    ///< The peer's certificate is refused.
  kNoCertificate,  ///< The peer showed none and has to.
  kAlert,          ///< The peer gave up and said why.
  kDamaged,        ///< Records or messages that break the rules.
  kOther,
};
inline constexpr std::size_t kFailures = 10;
std::string_view to_string(Failure failure);  ///< "not_tls", "version", ...

class Session {
 public:
  /// kClosed: the peer said that it is done; it may still be written to.
  enum class State : std::uint8_t { kHandshake, kOpen, kClosed, kFailed };

  struct Read {
    std::size_t taken = 0;  ///< Of the peer's bytes; the rest is to be offered again.
    std::size_t plain = 0;  ///< Written to the front of `plain`.
  };

  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Takes bytes from the peer and decrypts into `plain` while there is room. If `plain` was filled there may be more:
  /// call again when there is room, without new bytes if there are none. Takes nothing while answers of the handshake
  /// wait behind a full output(): send first. A failure's alert is in output().
  Read read(std::span<const std::byte> cipher, std::span<std::byte> plain);
  /// Takes all of `bytes`, however much it is, and appends what was decrypted: for exchanges whose size the caller
  /// limits.
  State feed(std::span<const std::byte> bytes, std::string& plain);
  /// Encrypts what fits; says how much. Only when open or closed by the peer; nothing after finish().
  std::size_t write(std::span<const std::byte> plain);
  /// Says that nothing more will be written. Once, when open or closed.
  void finish();
  /// After a pause of about a second: the next records are small again, so that the first of them can be used when the
  /// first packet has arrived. A session starts that way.
  void rested() { written_since_rest_ = 0; }

  /// Bytes for the peer, until taken by sent(). They stay in place until then; later ones are appended.
  [[nodiscard]] std::span<const std::byte> output() const { return {block_.get() + begin_, end_ - begin_}; }
  void sent(std::size_t count);
  /// No write() fits before something is sent.
  [[nodiscard]] bool output_full() const { return !overflow_.empty() || end_ + kRecordRoomMin > kOutputBytes; }

  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] Failure failure() const { return failure_; }
  /// "certificate expired", "self-signed certificate", "name mismatch", "unknown issuer", "not TLS", ...
  [[nodiscard]] const std::string& error() const { return error_; }

  // Of the handshake, once it is done. Views live as long as the session.
  [[nodiscard]] std::string_view version() const;  ///< "TLSv1.3"
  [[nodiscard]] std::string_view cipher() const;   ///< "TLS_AES_128_GCM_SHA256"
  [[nodiscard]] bool resumed() const;
  [[nodiscard]] std::string_view alpn() const;  ///< "h2"; empty: none was agreed on.

 protected:
  /// Takes over `ssl`, which knows its side.
  explicit Session(ssl_st* ssl);
  ~Session();
  void handshake();
  [[nodiscard]] ssl_st* ssl() const { return ssl_; }
  /// Why the peer's certificate is refused, where the library does not know; of static storage.
  void refuse_peer(std::string_view why) { refusal_ = why; }

 private:
  friend struct SessionBio;
  static constexpr std::size_t kRecordRoomMin = 2048;

  Read decrypt(std::span<const std::byte> cipher, std::span<std::byte> plain);
  void put(std::span<const std::byte> bytes);
  void stopped(int result);
  void fail();

  ssl_st* ssl_;
  std::span<const std::byte> input_;  ///< What the call under way has not taken yet.
  std::unique_ptr<std::byte[]> block_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::string overflow_;  ///< What did not fit into the block: a long chain's handshake.
  std::size_t written_since_rest_ = 0;
  State state_ = State::kHandshake;
  bool finished_ = false;
  Failure failure_ = Failure::kNone;
  std::string error_;
  std::string_view refusal_;
};

/// What the library says went wrong last, in words an operator knows; clears it.
std::string library_error();

}  // namespace mesh::tls
