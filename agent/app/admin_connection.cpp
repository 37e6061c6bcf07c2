// SPDX-License-Identifier: Apache-2.0
#include "app/admin_connection.hpp"

#include <algorithm>
#include <cerrno>

#include "base/log.hpp"

namespace mesh::app {
namespace {

using TlsState = tls::Session::State;

constexpr base::log::Logger kLog{"admin"};

/// Takes the same time wherever the first difference is.
bool same_secret(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

}  // namespace

AdminConnection::AdminConnection(AdminConnectionContext& context, int fd, Caller caller,
                                 std::function<void(AdminConnection*)> closed)
    : context_(context), fd_(fd), caller_(caller), closed_(std::move(closed)) {}

AdminConnection::~AdminConnection() { MESH_ASSERT(fd_ < 0); }

void AdminConnection::start() {
  ++context_.counters.connections;
  if (context_.certificate != nullptr) tls_.emplace(context_.certificate->context());
  context_.loop.arm(deadline_, context_.loop.now() + (tls_ ? kAdminHandshakeDeadline : kAdminIdleDeadline));
  receive();
}

void AdminConnection::close() {
  if (state_ == State::kClosing) return;
  state_ = State::kClosing;
  context_.loop.disarm(deadline_);
  if (receive_operation_.in_flight()) context_.loop.cancel(receive_operation_);
  if (send_operation_.in_flight()) context_.loop.cancel(send_operation_);
  // Always from the loop, so that whoever closes us is not destroyed under its own feet.
  context_.loop.post([self = shared_from_this()] { self->finish_close(); });
}

void AdminConnection::finish_close() {
  if (fd_ < 0 || receive_operation_.in_flight() || send_operation_.in_flight()) return;
  context_.loop.close(fd_);
  fd_ = -1;
  closed_(this);
}

void AdminConnection::receive() {
  state_ = State::kReceiving;
  context_.loop.receive(fd_, buffer_, receive_operation_);
}

void AdminConnection::on_received(std::int32_t result) {
  if (state_ == State::kClosing) return finish_close();
  if (result == -EINTR || result == -EAGAIN) return receive();
  if (result <= 0) return close();
  const auto bytes = std::as_bytes(std::span(buffer_)).first(static_cast<std::size_t>(result));
  if (tls_) return on_encrypted(bytes);
  take(bytes);
  advance();
}

void AdminConnection::on_encrypted(std::span<const std::byte> bytes) {
  const bool shaking_hands = tls_->state() == TlsState::kHandshake;
  std::string plain;
  const TlsState state = tls_->feed(bytes, plain);
  if (state == TlsState::kFailed) {
    ++context_.counters.tls;
    kLog.warn("TLS connection refused", {{"err", tls_->error()}});
  } else if (shaking_hands && state != TlsState::kHandshake) {
    context_.loop.arm(deadline_, context_.loop.now() + kAdminIdleDeadline);
  }
  if (!plain.empty()) take(std::as_bytes(std::span(plain)));
  if (!all_sent()) return send_rest();  // of the handshake, or an alert
  advance();
}

/// What a client said, for the request that is under way.
void AdminConnection::take(std::span<const std::byte> bytes) {
  session_.feed(bytes);
  if (!std::exchange(idle_, false)) return;
  context_.loop.arm(deadline_, context_.loop.now() + kAdminRequestDeadline);
}

void AdminConnection::advance() {
  if (tls_ && tls_->state() == TlsState::kFailed) return close();
  if (const auto request = session_.next()) return answer_request(*request);
  if (const auto status = session_.refusal()) {
    ++context_.counters.malformed;
    ++context_.counters.errors;
    const api::ErrorView view{"invalid", "read the request: " + std::string(http::reason_phrase(*status)),
                              "a request is HTTP/1.1, its head at most 8 KiB and its body at most 64 KiB"};
    return send({.status = *status, .body = api::encode(view) + '\n'}, false, false);
  }
  if (tls_ && tls_->state() == TlsState::kClosed) return close();
  receive();
}

void AdminConnection::answer_request(const http::Request& request) {
  state_ = State::kAnswering;
  ++context_.counters.requests;
  keep_alive_ = request.keep_alive;
  head_ = request.method == "HEAD";
  context_.loop.arm(deadline_, context_.loop.now() + kAdminAnswerDeadline);
  const std::uint64_t number = ++request_number_;
  if (!authorized(request)) {
    auto answer =
        error_response({base::ErrorKind::kPermission, "call " + request.target + ": the token is missing or wrong",
                        "send the header 'Authorization: Bearer TOKEN'", 0});
    answer.status = 401;
    return respond(number, std::move(answer));
  }
  app::answer(context_.backend, caller_, {request.method, request.target, request.body},
              [weak = weak_from_this(), number](AdminResponse answer) {
                if (const auto self = weak.lock()) self->respond(number, std::move(answer));
              });
}

bool AdminConnection::authorized(const http::Request& request) const {
  if (context_.token.empty()) return true;
  constexpr std::string_view kScheme = "Bearer ";
  const std::string* header = http::find_header(request.headers, "Authorization");
  return header != nullptr && header->starts_with(kScheme) &&
         same_secret(std::string_view(*header).substr(kScheme.size()), context_.token);
}

void AdminConnection::respond(std::uint64_t request_number, AdminResponse answer) {
  if (state_ != State::kAnswering || request_number != request_number_) return;
  if (answer.status >= 400) ++context_.counters.errors;
  if (answer.status == 401 || answer.status == 403) ++context_.counters.denied;
  http::Response response{.status = static_cast<unsigned>(answer.status),
                          .content_type = std::string(answer.content_type),
                          .body = std::move(answer.body)};
  if (!answer.allow.empty()) response.headers.emplace_back("Allow", std::move(answer.allow));
  if (answer.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  send(response, keep_alive_, head_);
}

void AdminConnection::send(const http::Response& response, bool keep_alive, bool head) {
  state_ = State::kSending;
  keep_alive_ = keep_alive;
  output_ = http::render(response, {.keep_alive = keep_alive, .head = head});
  sent_ = 0;
  context_.loop.arm(deadline_, context_.loop.now() + kAdminSendDeadline);
  send_rest();
}

void AdminConnection::send_rest() {
  auto bytes = std::as_bytes(std::span(output_).subspan(sent_));
  if (tls_) {
    if (tls_->output().empty()) {
      sent_ += tls_->write(bytes);
    }
    bytes = tls_->output();
  }
  context_.loop.send(fd_, bytes, send_operation_);
}

bool AdminConnection::all_sent() const { return sent_ == output_.size() && (!tls_ || tls_->output().empty()); }

void AdminConnection::on_sent(std::int32_t result) {
  if (state_ == State::kClosing) return finish_close();
  if (result == -EINTR || result == -EAGAIN) return send_rest();
  if (result <= 0) return close();
  if (tls_) {
    tls_->sent(static_cast<std::size_t>(result));
  } else {
    sent_ += static_cast<std::size_t>(result);
  }
  if (!all_sent()) return send_rest();
  if (state_ == State::kReceiving) return advance();  // that was TLS's own
  output_.clear();
  sent_ = 0;
  output_.shrink_to_fit();  // a list may have been large, and the client may stay
  if (!keep_alive_) return close();
  idle_ = session_.idle();
  context_.loop.arm(deadline_, context_.loop.now() + (idle_ ? kAdminIdleDeadline : kAdminRequestDeadline));
  advance();
}

void AdminConnection::on_deadline(base::TimePoint) {
  const bool shaking_hands = tls_ && tls_->state() == TlsState::kHandshake;
  if (shaking_hands || !idle_ || state_ != State::kReceiving) ++context_.counters.timeouts;
  close();
}

}  // namespace mesh::app
