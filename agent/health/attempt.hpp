// SPDX-License-Identifier: Apache-2.0
// One probe on its way: connect, exchange, verdict, with one deadline over all of it. The I/O shell around an Exchange.
//
// The outcome is reported the moment it is known; the Attempt is free for the next probe only when the loop has given
// back its operations. Connections that are not kept end by reset (SO_LINGER 0), so probing leaves no TIME_WAIT.
#pragma once

#include <sys/socket.h>

#include <array>
#include <expected>
#include <memory>

#include "base/address.hpp"
#include "base/fd.hpp"
#include "health/exchange.hpp"
#include "io/loop.hpp"

namespace mesh::health {

struct Target;

class Attempt {
 public:
  class Listener {
   public:
    /// A new exchange for the target; null: connecting is all there is to the probe. An outcome: it can't be tried.
    virtual std::expected<std::unique_ptr<Exchange>, Outcome> make_exchange(const Target& target) = 0;
    /// `connection`: to be kept for the target's next probe, or invalid.
    virtual void on_outcome(Attempt& attempt, Target& target, Outcome outcome, base::Fd connection) = 0;
    /// May start again, or be destroyed.
    virtual void on_free(Attempt& attempt) = 0;

   protected:
    ~Listener() = default;
  };

  Attempt(io::Loop& loop, Listener& listener) : loop_(loop), listener_(listener) {}

  struct Start {
    Target* target = nullptr;
    base::SocketAddress address;
    base::Duration timeout{};
    base::Fd connection;  ///< Kept from the last probe, or invalid. If it turns out dead, a new one is made.
  };
  /// Both callbacks may come from inside (no file descriptor left).
  void start(Start start);
  /// The target is gone: no outcome is wanted.
  void forget();
  [[nodiscard]] base::TimePoint began() const { return began_; }

 private:
  void dial();
  void pump();
  void on_connect(std::int32_t result);
  void on_send(std::int32_t result);
  void on_receive(std::int32_t result);
  void on_deadline(base::TimePoint now);
  bool dial_again();
  void finish(Outcome outcome);
  void wind_up();
  [[nodiscard]] bool busy() const { return connect_.in_flight() || send_.in_flight() || receive_.in_flight(); }

  io::Loop& loop_;
  Listener& listener_;
  Target* target_ = nullptr;  ///< Null once the outcome is reported, or not wanted.
  base::TimePoint began_{};
  sockaddr_storage address_{};
  socklen_t address_length_ = 0;
  base::Fd connection_;
  bool reused_ = false;
  bool received_ = false;
  std::unique_ptr<Exchange> exchange_;
  std::array<std::byte, 4096> buffer_;
  io::MemberOperation<Attempt, &Attempt::on_connect> connect_{*this};
  io::MemberOperation<Attempt, &Attempt::on_send> send_{*this};
  io::MemberOperation<Attempt, &Attempt::on_receive> receive_{*this};
  io::MemberTimer<Attempt, &Attempt::on_deadline> deadline_{*this};
};

/// What an errno of socket(), connect(), send() or recv() says about the endpoint, or about this node.
[[nodiscard]] Outcome outcome_of_errno(int errnum);

}  // namespace mesh::health
