// SPDX-License-Identifier: Apache-2.0
// One TCP connection of a client (RFC 7766): questions about the mesh are answered; with the first one that is about
// something else the whole connection is connected through to the client's resolver, byte by byte.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/address.hpp"
#include "base/fd.hpp"
#include "io/loop.hpp"

namespace mesh::names {

class Session;

class SessionOwner {
 public:
  virtual ~SessionOwner() = default;
  /// The answer where the message is a question about the mesh; `limit` 0: what the question says UDP takes.
  virtual std::optional<std::vector<std::byte>> answer(std::span<const std::byte> message, std::size_t limit) = 0;
  /// A socket in the client's namespace; invalid if there is none to be had.
  virtual base::Fd open_upstream(std::uint64_t place, const base::IpAddress& family_of, int type) = 0;
  /// The session has no operation in flight and will not be used again; it may be destroyed later, not in this call.
  virtual void ended(Session& session) = 0;
  virtual void count_forwarded() = 0;
  virtual void count_failed() = 0;
};

class Session {
 public:
  Session(SessionOwner& owner, io::Loop& loop, std::uint64_t place, base::SocketAddress resolver, base::Fd client);
  void start();

 private:
  static constexpr std::size_t kBufferSize = 4096;

  /// Bytes on their way from one socket to another.
  struct Direction {
    std::array<std::byte, kBufferSize> buffer;
    std::size_t begin = 0, end = 0;
  };

  void receive_question();
  void on_question(std::int32_t result);
  void take_questions();
  void on_answered(std::int32_t result);
  void pass_on();
  void on_connected(std::int32_t result);
  void on_from_client(std::int32_t result);
  void on_to_upstream(std::int32_t result);
  void on_from_upstream(std::int32_t result);
  void on_to_client(std::int32_t result);
  void on_idle(base::TimePoint now);
  void touch();
  void close();
  void end_if_idle();

  SessionOwner& owner_;
  io::Loop& loop_;
  const std::uint64_t place_;
  const base::SocketAddress resolver_;
  base::Fd client_, upstream_;
  bool closing_ = false, ended_ = false;
  std::vector<std::byte> question_;  ///< Read and not yet taken: at most a message with its length.
  std::vector<std::byte> answer_;
  std::size_t answer_sent_ = 0;
  sockaddr_storage upstream_address_{};
  Direction up_, down_;
  io::MemberOperation<Session, &Session::on_question> questioning_{*this};
  io::MemberOperation<Session, &Session::on_answered> answering_{*this};
  io::MemberOperation<Session, &Session::on_connected> connecting_{*this};
  io::MemberOperation<Session, &Session::on_from_client> from_client_{*this};
  io::MemberOperation<Session, &Session::on_to_upstream> to_upstream_{*this};
  io::MemberOperation<Session, &Session::on_from_upstream> from_upstream_{*this};
  io::MemberOperation<Session, &Session::on_to_client> to_client_{*this};
  io::MemberTimer<Session, &Session::on_idle> idle_{*this};
};

}  // namespace mesh::names
