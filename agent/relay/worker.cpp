// SPDX-License-Identifier: Apache-2.0
#include "relay/worker.hpp"

#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <utility>

#include "base/log.hpp"
#include "relay/listen.hpp"

namespace mesh::relay {
namespace {

constexpr base::log::Logger kLog{"relay"};
constexpr int kAcceptsPerStep = 16;                            // then those who are connected have their turn
constexpr std::size_t kAgedShare = 100;                        // one of so many ends for its age, each second
constexpr auto kAcceptPause = std::chrono::milliseconds(100);  // after accept() failed for want of something

std::string_view to_string(Refusal refusal) {
  return refusal == Refusal::kConnections ? "limit: connections" : "limit: handshakes per second";
}

}  // namespace

struct Worker::Acceptor {
  Acceptor(Worker& of, ListenerPtr what) : worker(of), listener(std::move(what)) {}

  void arm() { worker.loop().accept(listener->fd->get(), accepting); }
  void on_accepted(std::int32_t result) {
    if (gone) {
      if (result >= 0) worker.begin(listener, result);  // came before it was taken back
      // Of those who wait at a socket io_uring has one woken. If this one was, and was cancelled then, nobody else
      // knows of the connection: the next relay, asleep at the same socket, would hear of it when another one comes.
      take_waiting(kAcceptsPerStep);
      return worker.loop().arm(worker.chores_, worker.loop().now());
    }
    if (result >= 0) {
      starved = false;
      worker.begin(listener, result);
      take_waiting(kAcceptsPerStep - 1);
    } else if (result != -EAGAIN && result != -ECONNABORTED && result != -EINTR) {
      if (!std::exchange(starved, true)) {
        kLog.error("no connection accepted",
                   {{"listener", listener->settings.name},
                    {"err", base::fail_errno(-result, "accept",
                                             "who comes waits; raise LimitNOFILE of meshd-relay if "
                                             "descriptors are what it lacks")
                                .error()}});
      }
      return worker.loop().arm(pause, worker.loop().now() + kAcceptPause);
    }
    arm();
  }
  void on_pause(base::TimePoint) { arm(); }
  void take_waiting(int most) {
    for (int i = 0; i < most; ++i) {
      const int fd = ::accept4(listener->fd->get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) return;
      worker.begin(listener, fd);
    }
  }

  Worker& worker;
  ListenerPtr listener;
  bool gone = false;
  bool starved = false;  ///< Since it was said that none is accepted.
  io::MemberOperation<Acceptor, &Acceptor::on_accepted> accepting{*this};
  io::MemberTimer<Acceptor, &Acceptor::on_pause> pause{*this};
};

void Worker::leave(std::shared_ptr<const EndpointLoad> endpoint) {
  post([this, endpoint = std::move(endpoint)] {
    for (std::size_t i = connections_.size(); i > 0; --i) {  // from behind: one that ends gives its place to the last
      if (connections_[i - 1]->endpoint() == endpoint.get()) connections_[i - 1]->cut("endpoint left");
    }
  });
}

/// As the agent does with connections that the kernel knows: the oldest first, a few of a listener's at a time.
void Worker::end_aged() {
  post([this] {
    struct Aged {
      std::size_t all = 0;
      std::vector<Connection*> connections;
    };
    std::map<const Listener*, Aged> listeners;
    const base::TimePoint now = loop().now();
    for (const auto& connection : connections_) {
      const EndpointLoad* endpoint = connection->endpoint();
      if (endpoint == nullptr || endpoint->max_age == 0) continue;
      Aged& aged = listeners[connection->listener().get()];
      ++aged.all;
      const auto age = now - connection->relayed_since();
      if (age >= connection->age_limit(std::chrono::seconds(endpoint->max_age)))
        aged.connections.push_back(connection.get());
    }
    for (auto& [listener, aged] : listeners) {
      std::ranges::sort(aged.connections, {}, &Connection::relayed_since);
      aged.connections.resize(std::min(aged.connections.size(), (aged.all + kAgedShare - 1) / kAgedShare));
      for (Connection* connection : aged.connections) connection->cut("max_age");
    }
  });
}

base::Result<std::unique_ptr<Worker>> Worker::make(io::LoopKind kind, std::uint64_t seed, Places& places) {
  return std::unique_ptr<Worker>(new Worker(MESH_TRY(io::make_loop(kind, 1024)), seed, places));
}

Worker::Worker(io::LoopChoice loop, std::uint64_t seed, Places& places)
    : loop_(std::move(loop)), random_(seed), places_(places), input_(kInputBytes), plain_(kPlainBytes) {}

Worker::~Worker() { stop(); }

void Worker::start() {
  thread_ = std::thread([this] { loop_.loop->run(); });
  ::pthread_setname_np(thread_.native_handle(), "relay worker");
}

void Worker::stop() {
  if (!thread_.joinable()) return;
  loop_.loop->post([this] {
    while (!connections_.empty()) connections_.back()->cut("stopped");
    loop_.loop->stop();
  });
  thread_.join();
}

void Worker::set_listeners(std::vector<ListenerPtr> listeners) {
  ++orders_pending_;
  loop_.loop->post([this, listeners = std::move(listeners)]() mutable {
    listen(std::move(listeners));
    note_accepting();
    --orders_pending_;
  });
}

void Worker::listen(std::vector<ListenerPtr> listeners) {
  // Services may share a name, as those of two address families; one may have got another address, too.
  std::map<std::pair<std::string_view, base::SocketAddress>, ListenerPtr> mesh;
  for (const ListenerPtr& listener : listeners) {
    const ListenerSettings& settings = listener->settings;
    if (settings.mode == Mode::kMesh || settings.mode == Mode::kMutual) {
      mesh.try_emplace({settings.name, settings.address}, listener);
    }
  }
  // From behind: one that ends gives its place to the last.
  for (std::size_t i = connections_.size(); i > 0 && !mesh.empty(); --i) {
    const ListenerSettings& settings = connections_[i - 1]->listener()->settings;
    auto now = mesh.find({settings.name, settings.address});
    if (now == mesh.end()) now = mesh.lower_bound({settings.name, {}});
    if (now != mesh.end() && now->first.first == settings.name) connections_[i - 1]->recheck(now->second);
  }
  std::vector<std::unique_ptr<Acceptor>> before = std::exchange(acceptors_, {});
  for (ListenerPtr& listener : listeners) {
    const auto known =
        std::ranges::find_if(before, [&](const auto& one) { return one && one->listener->fd == listener->fd; });
    if (known != before.end()) {
      (*known)->listener = std::move(listener);
      acceptors_.push_back(std::move(*known));
    } else {
      acceptors_.push_back(std::make_unique<Acceptor>(*this, std::move(listener)));
      acceptors_.back()->arm();
    }
  }
  for (auto& one : before) {
    if (!one) continue;
    one->gone = true;
    loop().disarm(one->pause);
    loop().cancel(one->accepting);
    leaving_.push_back(std::move(one));
  }
  if (!leaving_.empty()) loop().arm(chores_, loop().now());
}

void Worker::begin(const ListenerPtr& listener, int accepted) {
  base::Fd fd(accepted);
  ListenerStats::add(listener->stats->accepted);
  if (places_.taken.fetch_add(1, std::memory_order_relaxed) >= places_.all) {
    places_.taken.fetch_sub(1, std::memory_order_relaxed);
    return listener->stats->failed.add("limit: descriptors");
  }
  if (const auto refusal = listener->gate->enter(loop().now())) {
    places_.taken.fetch_sub(1, std::memory_order_relaxed);
    return listener->stats->failed.add(to_string(*refusal));
  }
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  ::getpeername(fd.get(), reinterpret_cast<sockaddr*>(&address), &length);
  auto connection =
      std::make_unique<Connection>(*this, listener, std::move(fd), base::SocketAddress::from_sockaddr(address));
  connection->place = connections_.size();
  connections_.push_back(std::move(connection));
  connections_.back()->start();
}

std::expected<base::Fd, int> Worker::dial(const base::SocketAddress& backend) {
  const int family = backend.ip.is_v4() ? AF_INET : AF_INET6;
  base::Fd fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return std::unexpected(errno);
  set_stream_options(fd.get());
  sockaddr_storage storage{};
  const socklen_t length = backend.to_sockaddr(storage);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0 && errno != EINPROGRESS) {
    return std::unexpected(errno);
  }
  return fd;
}

void Worker::wants_turn(Connection& connection) {
  if (std::exchange(connection.waits_for_turn, true)) return;
  turns_.push_back(&connection);
  loop().arm(chores_, loop().now());
}

void Worker::ended(Connection& connection) {
  places_.taken.fetch_sub(1, std::memory_order_relaxed);
  const std::size_t place = connection.place;
  over_.push_back(std::move(connections_[place]));
  if (place + 1 != connections_.size()) {
    connections_[place] = std::move(connections_.back());
    connections_[place]->place = place;
  }
  connections_.pop_back();
  loop().arm(chores_, loop().now());
}

/// At the end of a step: nobody is inside of a connection now.
void Worker::on_chores(base::TimePoint) {
  for (Connection* connection : std::exchange(turns_, {})) {
    connection->waits_for_turn = false;
    connection->go_on();
  }
  over_.clear();
  std::erase_if(leaving_, [](const auto& one) { return !one->accepting.in_flight(); });
  note_accepting();
}

}  // namespace mesh::relay
