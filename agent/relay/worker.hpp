// SPDX-License-Identifier: Apache-2.0
// One thread of the relay: a loop of its own, and all connections that it accepted. Workers share nothing but the
// listening sockets, from which whoever is idle takes the next connection, and what a gate counts.
#pragma once

#include <sys/socket.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "relay/connection.hpp"
#include "relay/listener.hpp"

namespace mesh::relay {

class Worker final : public ConnectionHost {
 public:
  /// `places`: of the whole process.
  static base::Result<std::unique_ptr<Worker>> make(io::LoopKind kind, std::uint64_t seed, Places& places);
  ~Worker() override;

  void start();
  /// Cuts what is left.
  void stop();
  /// From any thread. Connections stay with the listener that they began with.
  void set_listeners(std::vector<ListenerPtr> listeners);

  // From any thread, of connections that are relayed.
  /// Ends those to an endpoint.
  void leave(std::shared_ptr<const EndpointLoad> endpoint);
  /// Ends some of those that are older than their service wants: to be called every second.
  void end_aged();

  /// Whether a connection may still come: until it has taken back all listeners.
  [[nodiscard]] bool accepting() const { return orders_pending_ > 0 || accepting_; }
  /// Runs `work` on the worker's thread soon. From any thread.
  void post(std::move_only_function<void()> work) { loop_.loop->post(std::move(work)); }

  [[nodiscard]] const std::string& loop_reason() const { return loop_.reason; }
  [[nodiscard]] std::string_view loop_name() const { return loop_.loop->name(); }

  // ConnectionHost
  [[nodiscard]] io::Loop& loop() override { return *loop_.loop; }
  [[nodiscard]] base::Random& random() override { return random_; }
  [[nodiscard]] std::span<std::byte> input_buffer() override { return input_; }
  [[nodiscard]] std::span<std::byte> plain_buffer() override { return plain_; }
  [[nodiscard]] std::expected<base::Fd, int> dial(const base::SocketAddress& backend) override;
  void wants_turn(Connection& connection) override;
  void ended(Connection& connection) override;

 private:
  struct Acceptor;

  Worker(io::LoopChoice loop, std::uint64_t seed, Places& places);
  void listen(std::vector<ListenerPtr> listeners);
  void begin(const ListenerPtr& listener, int fd);
  void on_chores(base::TimePoint now);
  void note_accepting() { accepting_ = !acceptors_.empty() || !leaving_.empty(); }

  io::LoopChoice loop_;
  base::Random random_;
  Places& places_;
  std::vector<std::byte> input_;
  std::vector<std::byte> plain_;
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
  std::vector<std::unique_ptr<Acceptor>> leaving_;  ///< With an accept that is still in flight.
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<std::unique_ptr<Connection>> over_;  ///< To be destroyed when nobody uses them.
  std::vector<Connection*> turns_;
  io::MemberTimer<Worker, &Worker::on_chores> chores_{*this};
  std::atomic<unsigned> orders_pending_ = 0;  ///< Calls of set_listeners() that are not carried out.
  std::atomic<bool> accepting_ = false;
  std::thread thread_;
};

}  // namespace mesh::relay
