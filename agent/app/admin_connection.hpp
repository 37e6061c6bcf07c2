// SPDX-License-Identifier: Apache-2.0
// One client of the admin API: a state machine over the loop. It reads a request, answers it, and reads the next one;
// every step has a deadline, so that a slow or silent client holds a place for a bounded time. Over TLS the same bytes
// go through a session between socket and HTTP; a long answer is encrypted piece by piece as the client takes it.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "app/admin_routes.hpp"
#include "app/certificate_keeper.hpp"
#include "base/clock.hpp"
#include "http/h1_server.hpp"
#include "io/loop.hpp"
#include "tls/server.hpp"

namespace mesh::app {

inline constexpr std::uint32_t kAdminHeaderBytes = 8 * 1024;
inline constexpr std::uint32_t kAdminBodyBytes = 64 * 1024;
inline constexpr std::size_t kAdminReceiveBytes = 8 * 1024;
inline constexpr auto kAdminHandshakeDeadline = std::chrono::seconds(5);  ///< a TLS handshake, from accept to its end
inline constexpr auto kAdminRequestDeadline = std::chrono::seconds(10);   ///< first byte of a request to its last
inline constexpr auto kAdminIdleDeadline = std::chrono::seconds(30);      ///< between requests
inline constexpr auto kAdminAnswerDeadline = std::chrono::seconds(60);    ///< for the backend to answer
inline constexpr auto kAdminSendDeadline = std::chrono::seconds(30);      ///< for the client to read an answer

/// Since start; mesh_admin_* metrics.
struct AdminCounters {
  std::uint64_t connections = 0;
  std::uint64_t refused_connections = 0;  ///< a limit on connections was reached
  std::uint64_t requests = 0;
  std::uint64_t errors = 0;     ///< answered with 400 or more
  std::uint64_t denied = 0;     ///< 401 and 403
  std::uint64_t malformed = 0;  ///< broken HTTP or over a size limit
  std::uint64_t timeouts = 0;   ///< closed by a deadline
  std::uint64_t tls = 0;        ///< no TLS handshake, or TLS broken later
};

/// What a connection needs from its server, which outlives it.
struct AdminConnectionContext {
  io::Loop& loop;
  AdminBackend& backend;
  AdminCounters& counters;
  std::string token;                               ///< "Authorization: Bearer <token>" is demanded; empty: none
  const CertificateKeeper* certificate = nullptr;  ///< TLS; null: none
};

class AdminConnection : public std::enable_shared_from_this<AdminConnection> {
 public:
  /// Owns `fd`. `closed` is called once, from the loop, when no operation is in flight any more and the descriptor is
  /// closed; the connection may be destroyed then (not inside the call).
  AdminConnection(AdminConnectionContext& context, int fd, Caller caller, std::function<void(AdminConnection*)> closed);
  ~AdminConnection();
  AdminConnection(const AdminConnection&) = delete;
  AdminConnection& operator=(const AdminConnection&) = delete;

  void start();
  void close();  ///< Soon; an answer on its way is cut off.

 private:
  enum class State : std::uint8_t { kReceiving, kAnswering, kSending, kClosing };

  void receive();
  void on_received(std::int32_t result);
  void on_encrypted(std::span<const std::byte> bytes);
  void take(std::span<const std::byte> bytes);
  void advance();
  void answer_request(const http::Request& request);
  void respond(std::uint64_t request_number, AdminResponse answer);
  void send(const http::Response& response, bool keep_alive, bool head);
  void send_rest();
  [[nodiscard]] bool all_sent() const;
  void on_sent(std::int32_t result);
  void on_deadline(base::TimePoint now);
  void finish_close();
  [[nodiscard]] bool authorized(const http::Request& request) const;

  AdminConnectionContext& context_;
  int fd_;
  Caller caller_;
  std::function<void(AdminConnection*)> closed_;
  http::ServerSession session_{{.header_bytes = kAdminHeaderBytes,
                                .body_bytes = kAdminBodyBytes,
                                .pipelined_bytes = kAdminHeaderBytes + kAdminBodyBytes}};
  std::optional<tls::ServerSession> tls_;
  State state_ = State::kReceiving;
  bool keep_alive_ = true;
  bool head_ = false;
  bool idle_ = true;                  ///< no request has begun: the idle deadline holds
  std::uint64_t request_number_ = 0;  ///< an answer to an older one is late and dropped
  std::array<std::byte, kAdminReceiveBytes> buffer_;
  std::string output_;
  std::size_t sent_ = 0;  ///< of output_; over TLS: given to the session
  io::MemberOperation<AdminConnection, &AdminConnection::on_received> receive_operation_{*this};
  io::MemberOperation<AdminConnection, &AdminConnection::on_sent> send_operation_{*this};
  io::MemberTimer<AdminConnection, &AdminConnection::on_deadline> deadline_{*this};
};

}  // namespace mesh::app
