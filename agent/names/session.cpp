// SPDX-License-Identifier: Apache-2.0
#include "names/session.hpp"

#include <algorithm>
#include <utility>

#include "names/message.hpp"
#include "names/responder.hpp"

namespace mesh::names {
namespace {

constexpr std::size_t kLengthSize = 2;  // before each message: RFC 1035 section 4.2.2

std::size_t length_at(std::span<const std::byte> bytes) {
  return std::to_integer<std::size_t>(bytes[0]) << 8 | std::to_integer<std::size_t>(bytes[1]);
}

}  // namespace

Session::Session(SessionOwner& owner, io::Loop& loop, std::uint64_t place, base::SocketAddress resolver,
                 base::Fd client)
    : owner_(owner), loop_(loop), place_(place), resolver_(resolver), client_(std::move(client)) {}

void Session::start() {
  touch();
  receive_question();
}

void Session::touch() { loop_.arm(idle_, loop_.now() + kSessionTimeout); }

void Session::receive_question() { loop_.receive(client_.get(), up_.buffer, questioning_); }

void Session::on_question(std::int32_t result) {
  if (closing_ || result <= 0) return close();
  touch();
  question_.insert(question_.end(), up_.buffer.begin(), up_.buffer.begin() + result);
  take_questions();
}

/// Answers what is whole, in order; a message is at most 64 KiB, so is what waits here.
void Session::take_questions() {
  if (question_.size() < kLengthSize || question_.size() < kLengthSize + length_at(question_)) {
    return receive_question();
  }
  const std::size_t length = length_at(question_);
  const auto message = std::span<const std::byte>(question_).subspan(kLengthSize, length);
  const auto ours = owner_.answer(message, kMaxMessage);
  if (!ours) return pass_on();
  answer_.assign({static_cast<std::byte>(ours->size() >> 8), static_cast<std::byte>(ours->size())});
  answer_.insert(answer_.end(), ours->begin(), ours->end());
  answer_sent_ = 0;
  question_.erase(question_.begin(), question_.begin() + static_cast<std::ptrdiff_t>(kLengthSize + length));
  loop_.send(client_.get(), answer_, answering_);
}

void Session::on_answered(std::int32_t result) {
  if (closing_ || result <= 0) return close();
  answer_sent_ += static_cast<std::size_t>(result);
  if (answer_sent_ < answer_.size()) {
    return loop_.send(client_.get(), std::span<const std::byte>(answer_).subspan(answer_sent_), answering_);
  }
  take_questions();
}

void Session::pass_on() {
  upstream_ = owner_.open_upstream(place_, resolver_.ip, SOCK_STREAM);
  if (!upstream_.valid()) {
    owner_.count_failed();
    return close();
  }
  const socklen_t length = resolver_.to_sockaddr(upstream_address_);
  loop_.connect(upstream_.get(), reinterpret_cast<const sockaddr*>(&upstream_address_), length, connecting_);
}

void Session::on_connected(std::int32_t result) {
  if (closing_ || result < 0) {
    if (!closing_) owner_.count_failed();
    return close();
  }
  owner_.count_forwarded();
  touch();
  // What was read already goes first; `answer_` has done its work and carries it.
  answer_ = std::exchange(question_, {});
  answer_sent_ = 0;
  loop_.send(upstream_.get(), answer_, to_upstream_);
  loop_.receive(upstream_.get(), down_.buffer, from_upstream_);
}

void Session::on_to_upstream(std::int32_t result) {
  if (closing_ || result <= 0) return close();
  touch();
  if (answer_sent_ < answer_.size()) {
    answer_sent_ += static_cast<std::size_t>(result);
    if (answer_sent_ < answer_.size()) {
      return loop_.send(upstream_.get(), std::span<const std::byte>(answer_).subspan(answer_sent_), to_upstream_);
    }
  } else {
    up_.begin += static_cast<std::size_t>(result);
    if (up_.begin < up_.end) {
      const auto rest = std::span<const std::byte>(up_.buffer).subspan(up_.begin, up_.end - up_.begin);
      return loop_.send(upstream_.get(), rest, to_upstream_);
    }
  }
  loop_.receive(client_.get(), up_.buffer, from_client_);
}

void Session::on_from_client(std::int32_t result) {
  if (closing_ || result < 0) return close();
  if (result == 0) {  // half-closed: the answer may still be on its way
    ::shutdown(upstream_.get(), SHUT_WR);
    return;
  }
  up_.begin = 0;
  up_.end = static_cast<std::size_t>(result);
  loop_.send(upstream_.get(), std::span<const std::byte>(up_.buffer).first(up_.end), to_upstream_);
}

void Session::on_from_upstream(std::int32_t result) {
  if (closing_ || result <= 0) return close();
  down_.begin = 0;
  down_.end = static_cast<std::size_t>(result);
  loop_.send(client_.get(), std::span<const std::byte>(down_.buffer).first(down_.end), to_client_);
}

void Session::on_to_client(std::int32_t result) {
  if (closing_ || result <= 0) return close();
  touch();
  down_.begin += static_cast<std::size_t>(result);
  if (down_.begin < down_.end) {
    const auto rest = std::span<const std::byte>(down_.buffer).subspan(down_.begin, down_.end - down_.begin);
    return loop_.send(client_.get(), rest, to_client_);
  }
  loop_.receive(upstream_.get(), down_.buffer, from_upstream_);
}

void Session::on_idle(base::TimePoint) { close(); }

void Session::close() {
  if (!std::exchange(closing_, true)) {
    loop_.disarm(idle_);
    for (io::Operation* operation : std::initializer_list<io::Operation*>{
             &questioning_, &answering_, &connecting_, &from_client_, &to_upstream_, &from_upstream_, &to_client_}) {
      if (operation->in_flight()) loop_.cancel(*operation);
    }
  }
  end_if_idle();
}

void Session::end_if_idle() {
  const bool busy = questioning_.in_flight() || answering_.in_flight() || connecting_.in_flight() ||
                    from_client_.in_flight() || to_upstream_.in_flight() || from_upstream_.in_flight() ||
                    to_client_.in_flight();
  if (!busy && !std::exchange(ended_, true)) owner_.ended(*this);
}

}  // namespace mesh::names
