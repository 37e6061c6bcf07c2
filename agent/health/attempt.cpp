// SPDX-License-Identifier: Apache-2.0
#include "health/attempt.hpp"

#include <cerrno>
#include <cstring>

namespace mesh::health {

using model::ProbeReason;

Outcome outcome_of_errno(int errnum) {
  switch (errnum) {
    case ECONNREFUSED:
      return {ProbeReason::kRefused, "refused"};
    case ETIMEDOUT:
      return {ProbeReason::kTimeout, "connect timeout"};
    case ECONNRESET:
    case EPIPE:
    case ECONNABORTED:
      return {ProbeReason::kReset, "connection reset"};
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EADDRNOTAVAIL:  // no local port left
    case EAGAIN:
    case EAFNOSUPPORT:
      return {ProbeReason::kLocal, std::strerror(errnum)};
    default:  // EHOSTUNREACH, ENETUNREACH, ENETDOWN; EPERM and EACCES are a packet filter's
      return {ProbeReason::kUnreachable, std::strerror(errnum)};
  }
}

void Attempt::start(Start start) {
  target_ = start.target;
  began_ = loop_.now();
  address_length_ = start.address.to_sockaddr(address_);
  received_ = false;
  loop_.arm(deadline_, began_ + start.timeout);
  connection_ = std::move(start.connection);
  reused_ = connection_.valid();
  auto exchange = listener_.make_exchange(*target_);
  if (!exchange) return finish(std::move(exchange).error());
  exchange_ = *std::move(exchange);
  if (reused_) {
    pump();
  } else {
    dial();
  }
}

void Attempt::forget() {
  target_ = nullptr;
  wind_up();
}

void Attempt::dial() {
  connection_ = base::Fd(::socket(address_.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!connection_.valid()) return finish(outcome_of_errno(errno));
  const linger reset{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(connection_.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  loop_.connect(connection_.get(), reinterpret_cast<const sockaddr*>(&address_), address_length_, connect_);
}

/// Sends what the exchange has to say; when it has said all, listens.
void Attempt::pump() {
  if (const auto output = exchange_->output(); !output.empty()) {
    loop_.send(connection_.get(), output, send_);
  } else {
    loop_.receive(connection_.get(), buffer_, receive_);
  }
}

void Attempt::on_connect(std::int32_t result) {
  if (target_ == nullptr) return wind_up();
  if (result < 0) return finish(outcome_of_errno(-result));
  if (exchange_ == nullptr) return finish({ProbeReason::kOk, "connected"});
  pump();
}

void Attempt::on_send(std::int32_t result) {
  if (target_ == nullptr) return wind_up();
  if (result < 0) {
    if (!dial_again()) finish(outcome_of_errno(-result));
    return;
  }
  exchange_->sent(static_cast<std::size_t>(result));
  pump();
}

void Attempt::on_receive(std::int32_t result) {
  if (target_ == nullptr) return wind_up();
  if (result <= 0 && dial_again()) return;
  if (result < 0) return finish(outcome_of_errno(-result));
  if (result == 0) return finish(exchange_->closed());
  received_ = true;
  if (auto outcome = exchange_->feed(std::span(buffer_).first(static_cast<std::size_t>(result)))) {
    return finish(*std::move(outcome));
  }
  pump();
}

void Attempt::on_deadline(base::TimePoint) {
  finish({ProbeReason::kTimeout, connect_.in_flight() ? "connect timeout" : exchange_->waiting_for()});
}

/// A kept connection that the peer closed in the meantime says nothing about its health: once more on a new one.
bool Attempt::dial_again() {
  if (!reused_ || received_) return false;
  auto exchange = listener_.make_exchange(*target_);
  if (!exchange) return false;
  exchange_ = *std::move(exchange);
  reused_ = false;
  loop_.close(connection_.release());
  dial();
  return true;
}

void Attempt::finish(Outcome outcome) {
  Target& target = *std::exchange(target_, nullptr);
  base::Fd kept;
  if (outcome.reason == ProbeReason::kOk && exchange_ != nullptr && exchange_->reusable() && !busy()) {
    kept = std::move(connection_);
  }
  listener_.on_outcome(*this, target, std::move(outcome), std::move(kept));
  wind_up();
}

/// Gives everything back, as soon as no operation holds it.
void Attempt::wind_up() {
  loop_.disarm(deadline_);
  if (busy()) {
    loop_.cancel(connect_);
    loop_.cancel(send_);
    loop_.cancel(receive_);
    return;
  }
  if (connection_.valid()) loop_.close(connection_.release());
  exchange_.reset();
  listener_.on_free(*this);
}

}  // namespace mesh::health
