// SPDX-License-Identifier: Apache-2.0
#include "names/responder.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <list>
#include <map>
#include <utility>

#include "base/log.hpp"
#include "names/message.hpp"
#include "names/session.hpp"

namespace mesh::names {
namespace {

constexpr int kBacklog = 64;
constexpr int kDatagramsPerStep = 64;  // so that one flood leaves the others their turn

base::IpAddress loopback_for(const base::SocketAddress& resolver) {
  return base::IpAddress::parse(resolver.ip.is_v4() ? "127.0.0.1" : "::1").value();
}

base::Fd open_socket(const base::IpAddress& family_of, int type) {
  const int family = family_of.is_v4() ? AF_INET : AF_INET6;
  return base::Fd(::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

/// A socket bound to the loopback port, in the namespace the thread is in.
base::Result<base::Fd> bind_socket(const base::SocketAddress& at, int type) {
  base::Fd fd = open_socket(at.ip, type);
  const std::string what = "listen on " + at.to_string();
  if (!fd.valid()) return base::fail_errno(errno, what);
  const int one = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  sockaddr_storage address{};
  const socklen_t length = at.to_sockaddr(address);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
      (type == SOCK_STREAM && ::listen(fd.get(), kBacklog) != 0)) {
    return base::fail_errno(errno, what, errno == EADDRINUSE ? "choose another agent.names.port" : "");
  }
  return fd;
}

/// The header of a query as the answer "server failure": the client asks its next resolver at once.
std::vector<std::byte> server_failure(std::span<const std::byte> query) {
  std::vector<std::byte> answer(query.begin(), query.end());
  answer[2] |= std::byte{0x80};
  answer[3] = (answer[3] & std::byte{0xf0}) | static_cast<std::byte>(Rcode::kServerFailure);
  return answer;
}

}  // namespace

class Responder::Core final : public SessionOwner {
 public:
  Core(io::Loop& loop, const Options& options);
  ~Core() override;

  base::Result<void> open() {
    home_.reset(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!home_.valid()) return base::fail_errno(errno, "open the agent's network namespace");
    return {};
  }
  void set_zone(std::shared_ptr<const Zone> zone) { zone_ = std::move(zone); }
  void set_places(std::vector<Place> places);
  [[nodiscard]] ResponderStats stats() const;

  // SessionOwner: what a TCP connection needs.
  std::optional<std::vector<std::byte>> answer(std::span<const std::byte> message, std::size_t limit) override;
  base::Fd open_upstream(std::uint64_t place, const base::IpAddress& family_of, int type) override;
  void ended(Session& session) override;
  void count_forwarded() override { add(forwarded_); }
  void count_failed() override { add(failed_); }

 private:
  struct Served;
  struct Listener;
  struct Forward;

  static void add(std::atomic<std::uint64_t>& counter) { counter.fetch_add(1, std::memory_order_relaxed); }
  base::Result<std::unique_ptr<Listener>> open_listener(const Served& served, const ResolverPort& port);
  void open_missing(Served& served, const std::vector<ResolverPort>& wanted);
  void drop(std::unique_ptr<Listener> listener);
  void sweep();
  void read_datagrams(Listener& listener);
  void forward(Listener& listener, const sockaddr_storage& client, socklen_t length,
               std::span<const std::byte> message);
  void accept(Listener& listener, base::Fd client);

  template <typename Do>
  bool in_namespace(const Served& served, Do&& work);

  io::Loop& loop_;
  const Options& options_;
  base::Fd home_;
  std::shared_ptr<const Zone> zone_;
  std::map<std::uint64_t, std::unique_ptr<Served>> places_;
  std::vector<std::unique_ptr<Listener>> dropped_;  ///< Until their operations have ended.
  std::list<std::unique_ptr<Forward>> forwards_;
  std::list<std::unique_ptr<Session>> sessions_;
  std::map<std::string, std::string> complained_;  ///< What was said of a place, so that it is said once.
  std::array<std::byte, kMaxMessage> buffer_;
  std::atomic<std::uint64_t> answered_ = 0, negative_ = 0, forwarded_ = 0, failed_ = 0, timed_out_ = 0, drops_ = 0,
                             served_places_ = 0, served_listeners_ = 0;
};

/// One resolver in one namespace.
struct Responder::Core::Listener {
  Listener(Core& core_in, std::uint64_t place_in, ResolverPort at_in) : core(core_in), place(place_in), at(at_in) {}
  void start() {
    core.loop_.poll(udp.get(), POLLIN, readable);
    core.loop_.accept(tcp.get(), accepting);
  }
  void on_readable(std::int32_t result) {
    if (dead || result < 0) return core.sweep();
    core.read_datagrams(*this);
    core.loop_.poll(udp.get(), POLLIN, readable);
  }
  void on_accept(std::int32_t result) {
    if (dead) {
      if (result >= 0) base::Fd(result).reset();
      return core.sweep();
    }
    if (result >= 0) core.accept(*this, base::Fd(result));
    core.loop_.accept(tcp.get(), accepting);
  }
  [[nodiscard]] bool idle() const { return !readable.in_flight() && !accepting.in_flight(); }

  Core& core;
  std::uint64_t place;
  ResolverPort at;
  base::Fd udp, tcp;
  bool dead = false;
  io::MemberOperation<Listener, &Listener::on_readable> readable{*this};
  io::MemberOperation<Listener, &Listener::on_accept> accepting{*this};
};

struct Responder::Core::Served {
  Place place;
  base::Fd netns;  ///< Invalid: the agent's own.
  std::vector<std::unique_ptr<Listener>> listeners;
};

/// One question by UDP that waits for its answer.
struct Responder::Core::Forward {
  Forward(Core& core_in, std::uint64_t place_in, ResolverPort at_in) : core(core_in), place(place_in), at(at_in) {}
  void on_readable(std::int32_t result) {
    if (result >= 0) {
      const ssize_t count = ::recv(upstream.get(), core.buffer_.data(), core.buffer_.size(), MSG_DONTWAIT);
      if (count > 0) {
        reply(std::span(core.buffer_).first(static_cast<std::size_t>(count)));
      } else {
        add(core.failed_);
        reply(server_failure(header));
      }
    }
    end();
  }
  void on_late(base::TimePoint) {
    add(core.timed_out_);
    core.loop_.cancel(readable);
  }
  void reply(std::span<const std::byte> message) {
    const auto served = core.places_.find(place);
    if (served == core.places_.end()) return;
    for (const auto& listener : served->second->listeners) {
      if (listener->at != at) continue;
      ::sendto(listener->udp.get(), message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&client), client_length);
    }
  }
  void end() {
    core.loop_.disarm(late);
    std::erase_if(core.forwards_, [this](const auto& one) { return one.get() == this; });
  }

  Core& core;
  std::uint64_t place;
  ResolverPort at;
  sockaddr_storage client{};
  socklen_t client_length = 0;
  std::vector<std::byte> header;  ///< The question, for the case that nobody can be asked.
  base::Fd upstream;
  io::MemberOperation<Forward, &Forward::on_readable> readable{*this};
  io::MemberTimer<Forward, &Forward::on_late> late{*this};
};

Responder::Core::Core(io::Loop& loop, const Options& options) : loop_(loop), options_(options) {}
Responder::Core::~Core() = default;

/// Runs `work` with the thread in the place's namespace. False: it can't be entered.
template <typename Do>
bool Responder::Core::in_namespace(const Served& served, Do&& work) {
  if (!served.netns.valid()) {
    work();
    return true;
  }
  if (::setns(served.netns.get(), CLONE_NEWNET) != 0) return false;
  work();
  MESH_ASSERT(::setns(home_.get(), CLONE_NEWNET) == 0);
  return true;
}

void Responder::Core::set_places(std::vector<Place> places) {
  std::map<std::uint64_t, std::unique_ptr<Served>> next;
  for (Place& place : places) {
    auto& served = next[place.id];
    if (const auto known = places_.find(place.id); known != places_.end()) {
      served = std::move(known->second);
      places_.erase(known);
    } else {
      served = std::make_unique<Served>();
      if (!place.path.empty()) served->netns.reset(::open(place.path.c_str(), O_RDONLY | O_CLOEXEC));
      if (!place.path.empty() && !served->netns.valid()) {
        next.erase(place.id);  // its processes have gone
        continue;
      }
    }
    for (auto& listener : served->listeners) {
      if (std::ranges::find(place.resolvers, listener->at) == place.resolvers.end()) drop(std::move(listener));
    }
    std::erase(served->listeners, nullptr);
    served->place = place;
    open_missing(*served, place.resolvers);
  }
  for (auto& [id, gone] : places_) {
    for (auto& listener : gone->listeners) drop(std::move(listener));
  }
  places_ = std::move(next);
  sweep();
  std::uint64_t listeners = 0;
  for (const auto& [id, served] : places_) listeners += served->listeners.size();
  served_places_ = places_.size();
  served_listeners_ = listeners;
}

void Responder::Core::open_missing(Served& served, const std::vector<ResolverPort>& wanted) {
  for (const ResolverPort& port : wanted) {
    if (std::ranges::any_of(served.listeners, [&](const auto& one) { return one->at == port; })) continue;
    base::Result<std::unique_ptr<Listener>> opened = base::fail(base::ErrorKind::kUnavailable, "enter the namespace");
    in_namespace(served, [&] { opened = open_listener(served, port); });
    std::string& said = complained_[served.place.path + " " + port.resolver.to_string()];
    if (opened) {
      said.clear();
      (*opened)->start();
      served.listeners.push_back(std::move(*opened));
      continue;
    }
    if (std::exchange(said, opened.error().to_string()) == said) continue;
    base::log::warn("names are not answered here",
                    {{"namespace", served.place.path.empty() ? "the agent's" : served.place.path},
                     {"resolver", port.resolver.to_string()},
                     {"err", opened.error()}});
  }
}

base::Result<std::unique_ptr<Responder::Core::Listener>> Responder::Core::open_listener(const Served& served,
                                                                                        const ResolverPort& port) {
  auto listener = std::make_unique<Listener>(*this, served.place.id, port);
  const base::SocketAddress at{loopback_for(port.resolver), port.port};
  listener->udp = MESH_TRY(bind_socket(at, SOCK_DGRAM));
  listener->tcp = MESH_TRY(bind_socket(at, SOCK_STREAM));
  for (const int fd : {listener->udp.get(), listener->tcp.get()}) MESH_CHECK(options_.mark(fd));
  return listener;
}

void Responder::Core::drop(std::unique_ptr<Listener> listener) {
  listener->dead = true;
  if (listener->readable.in_flight()) loop_.cancel(listener->readable);
  if (listener->accepting.in_flight()) loop_.cancel(listener->accepting);
  dropped_.push_back(std::move(listener));
}

void Responder::Core::sweep() {
  // Not from inside a completion of one of them: its members are still in use.
  loop_.post([this] { std::erase_if(dropped_, [](const auto& one) { return one->idle(); }); });
}

std::optional<std::vector<std::byte>> Responder::Core::answer(std::span<const std::byte> message, std::size_t limit) {
  const auto query = parse_query(message);
  if (!query || !zone_) return std::nullopt;
  const auto found = zone_->answer(query->name, query->type);
  if (!found) return std::nullopt;
  add(found->answers.empty() ? negative_ : answered_);
  return encode(*query, *found, limit == 0 ? query->udp_limit() : limit);
}

void Responder::Core::read_datagrams(Listener& listener) {
  for (int i = 0; i < kDatagramsPerStep; ++i) {
    sockaddr_storage client{};
    socklen_t length = sizeof(client);
    const ssize_t count = ::recvfrom(listener.udp.get(), buffer_.data(), buffer_.size(), MSG_DONTWAIT,
                                     reinterpret_cast<sockaddr*>(&client), &length);
    if (count < 0) return;
    const auto message = std::span<const std::byte>(buffer_).first(static_cast<std::size_t>(count));
    if (const auto ours = answer(message, 0)) {
      ::sendto(listener.udp.get(), ours->data(), ours->size(), MSG_DONTWAIT | MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&client), length);
    } else {
      forward(listener, client, length, message);
    }
  }
}

void Responder::Core::forward(Listener& listener, const sockaddr_storage& client, socklen_t length,
                              std::span<const std::byte> message) {
  if (forwards_.size() >= kForwardsMax) return add(drops_);
  auto forward = std::make_unique<Forward>(*this, listener.place, listener.at);
  forward->client = client;
  forward->client_length = length;
  forward->upstream = open_upstream(listener.place, listener.at.resolver.ip, SOCK_DGRAM);
  sockaddr_storage to{};
  const socklen_t to_length = listener.at.resolver.to_sockaddr(to);
  // Connected: the kernel takes answers from this resolver only, to a port that nobody can guess.
  const bool sent = forward->upstream.valid() &&
                    ::connect(forward->upstream.get(), reinterpret_cast<const sockaddr*>(&to), to_length) == 0 &&
                    ::send(forward->upstream.get(), message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
  if (message.size() >= kHeaderSize) forward->header.assign(message.begin(), message.end());
  if (!sent) {
    add(failed_);
    if (!forward->header.empty()) forward->reply(server_failure(forward->header));
    return;
  }
  add(forwarded_);
  Forward& under_way = *forwards_.emplace_back(std::move(forward));
  loop_.poll(under_way.upstream.get(), POLLIN, under_way.readable);
  loop_.arm(under_way.late, loop_.now() + kForwardTimeout);
}

base::Fd Responder::Core::open_upstream(std::uint64_t place, const base::IpAddress& family_of, int type) {
  base::Fd fd;
  const auto served = places_.find(place);
  if (served != places_.end()) in_namespace(*served->second, [&] { fd = open_socket(family_of, type); });
  return fd;
}

void Responder::Core::accept(Listener& listener, base::Fd client) {
  if (sessions_.size() >= kSessionsMax) return add(drops_);
  auto session = std::make_unique<Session>(*this, loop_, listener.place, listener.at.resolver, std::move(client));
  sessions_.push_back(std::move(session));
  sessions_.back()->start();
}

void Responder::Core::ended(Session& session) {
  loop_.post([this, &session] { std::erase_if(sessions_, [&](const auto& one) { return one.get() == &session; }); });
}

ResponderStats Responder::Core::stats() const {
  return {.answered = answered_,
          .negative = negative_,
          .forwarded = forwarded_,
          .failed = failed_,
          .timed_out = timed_out_,
          .dropped = drops_,
          .places = served_places_,
          .listeners = served_listeners_};
}

Responder::Responder(Options options) : options_(std::move(options)) {}

Responder::~Responder() { stop(); }

base::Result<void> Responder::start() {
  // Epoll, because a ring is torn down some time after its process has died and keeps our sockets until then: the hooks
  // would go on sending questions to them.
  loop_ = MESH_TRY(io::make_loop(io::LoopKind::kEpoll)).loop;
  core_ = std::make_unique<Core>(*loop_, options_);
  MESH_CHECK(core_->open());
  thread_ = std::thread([this] { loop_->run(); });
  return {};
}

void Responder::stop() {
  if (!thread_.joinable()) return;
  loop_->post([this] { loop_->stop(); });
  thread_.join();
}

void Responder::set_zone(std::shared_ptr<const Zone> zone) {
  loop_->post([this, zone = std::move(zone)]() mutable { core_->set_zone(std::move(zone)); });
}

void Responder::set_places(std::vector<Place> places) {
  loop_->post([this, places = std::move(places)]() mutable { core_->set_places(std::move(places)); });
}

ResponderStats Responder::stats() const { return core_ ? core_->stats() : ResponderStats{}; }

}  // namespace mesh::names
