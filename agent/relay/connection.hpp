// SPDX-License-Identifier: Apache-2.0
// One connection of a client: one state machine from accept to the end.
//
//   kProxyHeader ─▶ kHandshaking ─▶ kDialing ─▶ kRelaying ─▶ kEnded       TLS ends here
//              └──▶ kPeeking ──────────┘    └─▶ (next backend)              it goes through
//                                   kDialing ─▶ kHandshaking ─▶ kRelaying   it begins here
//                                          └─▶ (next backend) ◀┘
// To another node's relay: kDialing ─▶ kHandshaking ─▶ kMeshReply ─▶ kRelaying. From another node's: kHandshaking ─▶
// kMeshHeader ─▶ kDialing. As relay/mesh.hpp has it.
//
// One side is the outer one, where TLS is spoken, the other the inner one with plain bytes: clients are outside where
// TLS ends, backends where it begins.
//
// It reads and writes by itself when its descriptors are ready, into buffers that all connections of a worker share, so
// an idle connection holds none. What one side does not take yet is kept (at most one such buffer), and nothing more is
// read for it: back-pressure. An end that one side sends is passed to the other, which may go on (half-close); a reset
// is passed as a reset. A backend that can't be reached is replaced by another while not a byte was sent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/address.hpp"
#include "base/fd.hpp"
#include "base/random.hpp"
#include "io/loop.hpp"
#include "relay/listener.hpp"
#include "relay/proxy_header.hpp"

namespace mesh::relay {

class Connection;

/// What all connections of a worker share.
class ConnectionHost {
 public:
  virtual ~ConnectionHost() = default;
  [[nodiscard]] virtual io::Loop& loop() = 0;
  [[nodiscard]] virtual base::Random& random() = 0;
  /// Two buffers; nobody leaves anything in them.
  [[nodiscard]] virtual std::span<std::byte> input_buffer() = 0;
  [[nodiscard]] virtual std::span<std::byte> plain_buffer() = 0;
  /// A socket that begins to connect to a backend, or the errno of why it can't.
  [[nodiscard]] virtual std::expected<base::Fd, int> dial(const base::SocketAddress& backend) = 0;
  /// `connection` has had its turn and has more to do: go_on() is to be called soon.
  virtual void wants_turn(Connection& connection) = 0;
  /// It is over; to be destroyed, but not in this call.
  virtual void ended(Connection& connection) = 0;
};

inline constexpr std::size_t kInputBytes = 32 * 1024;  ///< Received from a client at once.
inline constexpr std::size_t kPlainBytes = 64 * 1024;  ///< From a backend; and what kInputBytes are decrypted to.
inline constexpr std::size_t kTurnBytes = 256 * 1024;  ///< Then others have their turn.
inline constexpr std::size_t kDialsMax = 3;            ///< Backends tried for one connection.

class Connection {
 public:
  /// `client` was let in by the listener's gate.
  Connection(ConnectionHost& host, ListenerPtr listener, base::Fd client, base::SocketAddress source);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void start();
  void go_on();
  /// Of the mesh, either side: ends it if `now`, which took its listener's place, would refuse its peer.
  void recheck(const ListenerPtr& now);
  /// Ends it at once, whatever its state.
  void cut(std::string_view reason);
  /// Its endpoint, while it is relayed; else null.
  [[nodiscard]] const EndpointLoad* endpoint() const { return state_ == State::kRelaying ? load_.get() : nullptr; }
  /// When the relay began to pass bytes on.
  [[nodiscard]] base::TimePoint relayed_since() const { return relayed_since_; }
  /// How old it may become: up to a fifth beyond what the service says, so that not all end at once.
  [[nodiscard]] base::Duration age_limit(std::chrono::seconds max_age) const;

  [[nodiscard]] const ListenerPtr& listener() const { return listener_; }
  std::size_t place = 0;        ///< The host's.
  bool waits_for_turn = false;  ///< The host's.

 private:
  enum class State : std::uint8_t {
    kProxyHeader,
    kPeeking,
    kHandshaking,
    kMeshHeader,
    kMeshReply,
    kDialing,
    kRelaying,
    kEnded
  };
  enum class Came : std::uint8_t { kSome, kNothing, kEnd, kFailure };
  enum class Flush : std::uint8_t { kDone, kBlocked, kFailed };

  /// One socket, and what is to be sent to it.
  struct Leg {
    base::Fd fd;
    bool readable = false;  ///< As far as is known.
    bool writable = false;
    bool hung_up = false;  ///< Its end is among what can be read.
    bool broken = false;   ///< It was reset, or the network gave it up.
    bool ended = false;    ///< Nothing more comes from it.
    bool told = false;     ///< It knows that nothing more comes from the other side.
    std::vector<std::byte> pending;
    std::size_t sent = 0;  ///< Of `pending`.

    void on(unsigned events);
    /// Bytes; 0 at the end, -EAGAIN or another -errno.
    [[nodiscard]] std::int64_t receive(std::span<std::byte> buffer);
    /// Sends `bytes` and keeps what does not go. Only when nothing is pending.
    [[nodiscard]] Flush send(std::span<const std::byte> bytes);
    [[nodiscard]] Flush flush();
    /// How much was sent, or -errno.
    [[nodiscard]] std::int64_t send_some(std::span<const std::byte> bytes);
    [[nodiscard]] base::SocketAddress own_address() const;
  };

  void on_client(unsigned events);
  void on_backend(unsigned events);
  void on_deadline(base::TimePoint now);
  void run();
  void admit();
  bool read_more();
  void read_proxy_header();
  void peek();
  void handshake();
  Came decrypt_more();
  void read_mesh_header();
  void judge_mesh(const ProxyHeader& header);
  void refuse_mesh(MeshReply reply, const ProxyHeader& header);
  void reply_mesh(MeshReply reply);
  void identify_client();
  void begin_mesh();
  void read_mesh_reply();
  void complain_of_mesh() const;
  void close_if_refused(const ListenerPtr& now);
  [[nodiscard]] std::string_view refusal_of_client(const ListenerPtr& now) const;
  [[nodiscard]] std::string_view refusal_of_server(const ListenerPtr& now);
  void count_identities(std::string_view service, const tls::SpiffeId& client, std::string_view server) const;
  void route(std::string_view server_name);
  void dial();
  void dial(const base::SocketAddress& backend);
  void on_dialed(int errnum);
  void accepted();
  void begin_session();
  void backend_failed(std::string reason, EndpointLoad::Counter experience = &EndpointLoad::not_agreed);
  void handshake_failed(std::string reason);
  [[nodiscard]] std::string failure_label() const;
  void complain();
  void begin_relaying();
  void relay();
  bool relay_in(std::size_t& budget);
  bool relay_out(std::size_t& budget);
  [[nodiscard]] std::span<const std::byte> take_from(Leg& leg, std::int64_t& count);
  [[nodiscard]] std::string proxy_header() const;
  [[nodiscard]] Flush flush_outer();
  [[nodiscard]] bool originates() const { return listener_->settings.mode == Mode::kOriginate || is_mesh_client(); }
  [[nodiscard]] bool is_mesh_client() const { return listener_->settings.mode == Mode::kMutual; }
  [[nodiscard]] Leg& outer() { return originates() ? backend_ : client_; }
  [[nodiscard]] Leg& inner() { return originates() ? client_ : backend_; }
  [[nodiscard]] std::string_view name_of(const Leg& leg) const { return &leg == &client_ ? "client" : "backend"; }
  [[nodiscard]] std::string gone(const Leg& leg, std::string_view how) const;
  void count(const Leg& from, std::size_t bytes) const;
  void close_backend();
  void end(Tally& tally, std::string_view reason, bool reset);
  /// An application that knows nothing of TLS shall see that it is not the server's own end.
  void fail(std::string_view reason) { end(listener_->stats->failed, reason, originates()); }

  ConnectionHost& host_;
  ListenerPtr listener_;
  State state_ = State::kHandshaking;
  bool source_counted_ = false;
  bool finished_ = false;  ///< The session was told that nothing more will be written.
  std::variant<std::monostate, tls::ServerSession, tls::ClientSession> sessions_;
  tls::Session* session_ = nullptr;  ///< Of them, if there is one.
  Leg client_;
  Leg backend_;
  base::SocketAddress source_;
  std::optional<base::SocketAddress> destination_;        ///< As a proxy said it.
  std::string mesh_service_;                              ///< As another relay said it.
  ListenerPtr newer_;                                     ///< Of the mesh: came before it was relayed.
  std::unique_ptr<MeshPeering> peering_;                  ///< Of mode mutual.
  std::shared_ptr<const tls::ServerContext> checked_by_;  ///< Of mode mesh: who found the peer good last.
  std::vector<std::byte> unread_;                         ///< From outside: not understood yet.
  std::vector<std::byte> unsent_;                         ///< From inside: not encrypted yet.
  TargetPtr target_;
  std::shared_ptr<EndpointLoad> load_;
  std::vector<std::uint32_t> tried_;
  base::SocketAddress backend_address_;
  std::string backend_problem_;  ///< Why the last one that was tried is not connected.
  base::TimePoint relayed_since_{};
  base::TimePoint active_at_{};  ///< When a byte went either way last.
  io::MemberWatch<Connection, &Connection::on_client> client_watch_{*this};
  io::MemberWatch<Connection, &Connection::on_backend> backend_watch_{*this};
  io::MemberTimer<Connection, &Connection::on_deadline> deadline_{*this};
};

}  // namespace mesh::relay
