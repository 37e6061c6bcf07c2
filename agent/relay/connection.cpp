// SPDX-License-Identifier: Apache-2.0
#include "relay/connection.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <string>
#include <tuple>
#include <utility>

#include "base/log.hpp"
#include "relay/proxy_header.hpp"
#include "tls/client_hello.hpp"

namespace mesh::relay {
namespace {

constexpr base::log::Logger kLog{"relay"};

/// A slow start's small records come back after so long without a byte.
constexpr auto kRest = std::chrono::seconds(1);

constexpr std::string_view why(int errnum) {
  switch (errnum) {
    case ECONNRESET:
    case EPIPE:
      return "reset";
    case ETIMEDOUT:
      return "not acknowledged";
    default:
      return "network";
  }
}

std::uint64_t key_of(const base::IpAddress& ip) { return base::hash64(ip.bytes); }

}  // namespace

void Connection::Leg::on(unsigned events) {
  if ((events & (POLLIN | POLLRDHUP | POLLHUP | POLLERR)) != 0) readable = true;
  if ((events & (POLLOUT | POLLHUP | POLLERR)) != 0) writable = true;
  if ((events & (POLLRDHUP | POLLHUP | POLLERR)) != 0) hung_up = true;
  if ((events & POLLERR) != 0) broken = true;
}

std::int64_t Connection::Leg::receive(std::span<std::byte> buffer) {
  ssize_t count = 0;
  do {
    count = ::recv(fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  } while (count < 0 && errno == EINTR);
  if (count < 0) {
    if (errno == EAGAIN) readable = false;
    return -errno;
  }
  // Less than there was room for: it is empty, and the next byte is an edge. Not so once the end is near, which is no
  // byte and whose edge has been.
  if (static_cast<std::size_t>(count) < buffer.size() && !hung_up) readable = false;
  return count;
}

std::int64_t Connection::Leg::send_some(std::span<const std::byte> bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = ::send(fd.get(), bytes.data() + done, bytes.size() - done, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) {
      writable = false;
      break;
    }
    if (count < 0) return -errno;
    done += static_cast<std::size_t>(count);
  }
  return static_cast<std::int64_t>(done);
}

Connection::Flush Connection::Leg::send(std::span<const std::byte> bytes) {
  const std::int64_t count = send_some(bytes);
  if (count < 0) return Flush::kFailed;
  const auto rest = bytes.subspan(static_cast<std::size_t>(count));
  if (rest.empty()) return Flush::kDone;
  pending.assign(rest.begin(), rest.end());
  sent = 0;
  return Flush::kBlocked;
}

Connection::Flush Connection::Leg::flush() {
  if (pending.empty()) return Flush::kDone;
  if (!writable) return Flush::kBlocked;
  const std::int64_t count = send_some(std::span<const std::byte>(pending).subspan(sent));
  if (count < 0) return Flush::kFailed;
  sent += static_cast<std::size_t>(count);
  if (sent < pending.size()) return Flush::kBlocked;
  pending = {};  // an idle connection holds no buffer
  sent = 0;
  return Flush::kDone;
}

Connection::Connection(ConnectionHost& host, ListenerPtr listener, base::Fd client, base::SocketAddress source)
    : host_(host), listener_(std::move(listener)), source_(source) {
  client_.fd = std::move(client);
}

Connection::~Connection() { cut("stopped"); }

void Connection::start() {
  active_at_ = host_.loop().now();
  host_.loop().arm(deadline_, active_at_ + listener_->settings.limits.handshake_timeout);
  host_.loop().watch(client_.fd.get(), client_watch_);
  state_ = State::kProxyHeader;
  if (!listener_->settings.proxy_protocol.accept) admit();
}

/// The source is known: it may have too many connections.
void Connection::admit() {
  const Gate::Source source = listener_->gate->enter_source(source_.ip);
  if (source == Gate::Source::kRefused) return fail("limit: connections per source");
  source_counted_ = source == Gate::Source::kCounted;
  if (listener_->tls) {
    session_.emplace(listener_->tls);
    state_ = State::kHandshaking;
  } else {
    state_ = State::kPeeking;
  }
}

void Connection::on_client(unsigned events) {
  client_.on(events);
  run();
}

void Connection::on_backend(unsigned events) {
  backend_.on(events);
  if (state_ != State::kDialing) return run();
  int error = 0;
  socklen_t length = sizeof(error);
  ::getsockopt(backend_.fd.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0 || backend_.writable) on_dialed(error);
}

void Connection::go_on() { run(); }

void Connection::run() {
  switch (state_) {
    case State::kProxyHeader:
      return read_proxy_header();
    case State::kPeeking:
      return peek();
    case State::kHandshaking:
      return handshake();
    case State::kDialing:
      // Nothing is read for a backend that is not there; but a client that is gone needs none.
      if (client_.broken) fail("client gave up");
      return;
    case State::kRelaying:
      return relay();
    case State::kEnded:
      return;
  }
}

void Connection::on_deadline(base::TimePoint now) {
  switch (state_) {
    case State::kDialing:
      return on_dialed(ETIMEDOUT);
    case State::kRelaying: {
      const base::TimePoint due = active_at_ + listener_->settings.limits.idle_timeout;
      if (now < due) return host_.loop().arm(deadline_, due);
      return end(listener_->stats->ended, "idle", false);
    }
    default:
      return fail(state_ == State::kHandshaking ? "handshake timeout" : "hello timeout");
  }
}

/// What was kept, or what comes. `count`: of it; 0 at the end, or -errno. What is not taken the caller puts back.
std::span<const std::byte> Connection::take_from_client(std::int64_t& count) {
  count = 0;
  if (!client_.readable) {
    count = -EAGAIN;
    return {};
  }
  const std::span<std::byte> buffer = host_.input_buffer();
  count = client_.receive(buffer);
  if (count <= 0) return {};
  return buffer.first(static_cast<std::size_t>(count));
}

/// Appends what came to what is not understood yet. False: nothing more for now, or the connection is over.
bool Connection::read_more() {
  std::int64_t count = 0;
  const auto bytes = take_from_client(count);
  if (count == -EAGAIN) return false;
  if (count <= 0) {
    fail("client gave up");
    return false;
  }
  unread_.insert(unread_.end(), bytes.begin(), bytes.end());
  return true;
}

void Connection::read_proxy_header() {
  while (read_more()) {
    const ProxyParse parsed = parse_proxy_header(unread_);
    if (parsed.state == ProxyState::kMore) continue;
    if (parsed.state == ProxyState::kRefused) return fail("proxy header: " + std::string(parsed.problem));
    if (parsed.header.source) source_ = *parsed.header.source;
    destination_ = parsed.header.destination;
    unread_.erase(unread_.begin(), unread_.begin() + static_cast<std::ptrdiff_t>(parsed.size));
    admit();
    return run();
  }
}

void Connection::peek() {
  do {
    const tls::Peek peek = tls::peek_client_hello(unread_);
    if (peek.state == tls::PeekState::kMore) continue;
    if (peek.state == tls::PeekState::kRefused) return fail("hello: " + std::string(peek.problem));
    backend_.pending = std::exchange(unread_, {});
    return route(peek.hello.server_name);
  } while (read_more());
}

/// What a backend that asks for it gets before the client's first byte.
std::string Connection::proxy_header() const {
  ProxyHeader header{.source = source_, .destination = destination_};
  if (!header.destination) {
    sockaddr_storage own{};
    socklen_t length = sizeof(own);
    ::getsockname(client_.fd.get(), reinterpret_cast<sockaddr*>(&own), &length);
    header.destination = base::SocketAddress::from_sockaddr(own);
  }
  if (session_) {
    header.alpn = session_->alpn();
    header.authority = session_->server_name();
    const auto peer = session_->peer();
    header.tls = ProxyTls{.version = std::string(session_->version()),
                          .cipher = std::string(session_->cipher()),
                          .certificate = peer.has_value(),
                          .common_name = peer ? peer->subject : std::string()};
  }
  return encode(header);
}

void Connection::handshake() {
  while (true) {
    if (flush_client() == Flush::kFailed) return fail("client gave up");
    std::span<const std::byte> bytes;
    if (unread_.empty()) {
      std::int64_t count = 0;
      bytes = take_from_client(count);
      if (count == -EAGAIN) return;
      if (count <= 0) return fail("client gave up");
    } else {
      if (!session_->output().empty()) return;
      bytes = unread_;
    }
    const std::span<std::byte> plain = host_.plain_buffer();
    const auto read = session_->read(bytes, plain);
    backend_.pending.insert(backend_.pending.end(), plain.begin(),
                            plain.begin() + static_cast<std::ptrdiff_t>(read.plain));
    const auto rest = bytes.subspan(read.taken);
    unread_ = std::vector<std::byte>(rest.begin(), rest.end());
    const Flush flushed = flush_client();
    switch (session_->state()) {
      case tls::Session::State::kHandshake:
        if (flushed == Flush::kFailed) return fail("client gave up");
        continue;
      case tls::Session::State::kFailed:
        kLog.info("handshake failed",
                  {{"listener", listener_->settings.name}, {"peer", source_.to_string()}, {"err", session_->error()}});
        return fail("tls: " + std::string(tls::to_string(session_->failure())));
      case tls::Session::State::kClosed:
        client_ended_ = true;
        [[fallthrough]];
      case tls::Session::State::kOpen:
        if (flushed == Flush::kFailed) return fail("client gave up");
        listener_->stats->handshakes.add(std::string(session_->version()) + " " + std::string(session_->cipher()));
        if (session_->resumed()) ListenerStats::add(listener_->stats->resumed);
        if (session_->answers_challenge()) {
          session_->finish();
          std::ignore = flush_client();
          return fail("acme challenge answered");
        }
        return route(session_->server_name());
    }
  }
}

void Connection::route(std::string_view server_name) {
  target_ = listener_->target_for(server_name);
  if (!target_) return fail("no service for this name");
  state_ = State::kDialing;
  dial();
}

/// Begins to connect to a backend that was not tried yet.
void Connection::dial() {
  while (tried_.size() < kDialsMax) {
    const auto choice = target_->choose(host_.random(), key_of(source_.ip), tried_);
    if (!choice) break;
    if (!tried_.empty()) ListenerStats::add(listener_->stats->retries);
    tried_.push_back(choice->route);
    backend_.fd = host_.dial(choice->address);
    if (!backend_.fd.valid()) continue;
    load_ = choice->load;
    load_->active.fetch_add(1, std::memory_order_relaxed);
    backend_.readable = backend_.writable = backend_.hung_up = backend_.broken = false;
    host_.loop().watch(backend_.fd.get(), backend_watch_);
    host_.loop().arm(deadline_, host_.loop().now() + listener_->settings.limits.connect_timeout);
    return;
  }
  fail(tried_.empty() ? "no backend is up" : "no backend answers");
}

void Connection::on_dialed(int errnum) {
  if (errnum != 0) {
    close_backend();
    return dial();
  }
  if (listener_->settings.proxy_protocol.send) {
    const std::string header = proxy_header();
    const auto bytes = std::as_bytes(std::span(header));
    backend_.pending.insert(backend_.pending.begin(), bytes.begin(), bytes.end());
  }
  target_.reset();
  tried_ = {};
  ListenerStats::add(listener_->stats->relayed);
  state_ = State::kRelaying;
  active_at_ = host_.loop().now();
  host_.loop().arm(deadline_, active_at_ + listener_->settings.limits.idle_timeout);
  relay();
}

void Connection::relay() {
  const base::TimePoint now = host_.loop().now();
  if (session_ && now - active_at_ >= kRest) session_->rested();
  std::size_t up = kTurnBytes;
  std::size_t down = kTurnBytes;
  if (!relay_up(up) || !relay_down(down)) return;
  // Who has said its last word is not read any more, and so would not be missed.
  if (client_.broken && up_done_) return end(listener_->stats->ended, "client reset", true);
  if (backend_.broken && backend_ended_) return end(listener_->stats->ended, "backend reset", true);
  // Answers of TLS itself may have come up, whichever way bytes went.
  if (session_ && flush_client() == Flush::kFailed) return end(listener_->stats->ended, "client reset", true);
  if (up != kTurnBytes || down != kTurnBytes) active_at_ = now;
  if (up_done_ && down_done_) return end(listener_->stats->ended, "closed", false);
  if (up == 0 || down == 0) host_.wants_turn(*this);
}

/// From the client to the backend. False: the connection is over.
bool Connection::relay_up(std::size_t& budget) {
  Tally& ended = listener_->stats->ended;
  while (budget > 0 && !up_done_) {
    switch (backend_.flush()) {
      case Flush::kBlocked:
        return true;
      case Flush::kFailed:
        return end(ended, "backend reset", true), false;
      case Flush::kDone:
        break;
    }
    if (client_ended_) {
      ::shutdown(backend_.fd.get(), SHUT_WR);
      up_done_ = true;
      return true;
    }
    std::span<const std::byte> bytes = unread_;
    if (unread_.empty()) {
      std::int64_t count = 0;
      bytes = take_from_client(count);
      if (count == -EAGAIN) return true;
      if (count < 0)
        return end(ended, std::string("client ") + std::string(why(static_cast<int>(-count))), true), false;
      if (count == 0) {
        client_ended_ = true;
        continue;
      }
    }
    const std::size_t came = bytes.size();
    std::span<const std::byte> plain = bytes;
    if (session_) {
      const auto buffer = host_.plain_buffer();
      const auto read = session_->read(bytes, buffer);
      plain = buffer.first(read.plain);
      const auto rest = bytes.subspan(read.taken);
      if (!rest.empty() || !unread_.empty()) unread_ = std::vector<std::byte>(rest.begin(), rest.end());
      if (session_->state() == tls::Session::State::kFailed) {
        std::ignore = flush_client();  // the alert
        return end(ended, "tls: " + std::string(tls::to_string(session_->failure())), true), false;
      }
      client_ended_ = session_->state() == tls::Session::State::kClosed;
      if (!unread_.empty() && read.taken == 0 && flush_client() != Flush::kDone) return true;
    }
    ListenerStats::add(listener_->stats->bytes_received, plain.size());
    budget -= std::min(budget, came);
    if (backend_.send(plain) == Flush::kFailed) return end(ended, "backend reset", true), false;
  }
  return true;
}

/// From the backend to the client. False: the connection is over.
bool Connection::relay_down(std::size_t& budget) {
  Tally& ended = listener_->stats->ended;
  while (budget > 0 && !down_done_) {
    switch (flush_client()) {
      case Flush::kBlocked:
        return true;
      case Flush::kFailed:
        return end(ended, "client reset", true), false;
      case Flush::kDone:
        break;
    }
    if (!unsent_.empty()) {
      unsent_.erase(unsent_.begin(), unsent_.begin() + static_cast<std::ptrdiff_t>(session_->write(unsent_)));
      if (unsent_.empty()) unsent_ = {};
      continue;
    }
    if (backend_ended_) {
      if (session_ && !std::exchange(finished_, true)) {
        session_->finish();
        continue;
      }
      ::shutdown(client_.fd.get(), SHUT_WR);
      down_done_ = true;
      return true;
    }
    if (!backend_.readable) return true;
    const std::span<std::byte> buffer = host_.plain_buffer();
    const std::int64_t count = backend_.receive(buffer);
    if (count == -EAGAIN) return true;
    if (count < 0) return end(ended, std::string("backend ") + std::string(why(static_cast<int>(-count))), true), false;
    if (count == 0) {
      backend_ended_ = true;
      continue;
    }
    const auto bytes = std::span<const std::byte>(buffer).first(static_cast<std::size_t>(count));
    ListenerStats::add(listener_->stats->bytes_sent, bytes.size());
    budget -= std::min(budget, bytes.size());
    if (session_) {
      const auto rest = bytes.subspan(session_->write(bytes));
      if (!rest.empty()) unsent_.assign(rest.begin(), rest.end());
    } else if (client_.send(bytes) == Flush::kFailed) {
      return end(ended, "client reset", true), false;
    }
  }
  return true;
}

Connection::Flush Connection::flush_client() {
  if (!session_) return client_.flush();
  while (!session_->output().empty()) {
    if (!client_.writable) return Flush::kBlocked;
    const std::int64_t count = client_.send_some(session_->output());
    if (count < 0) return Flush::kFailed;
    session_->sent(static_cast<std::size_t>(count));
  }
  return Flush::kDone;
}

void Connection::close_backend() {
  if (backend_watch_.watching()) host_.loop().unwatch(backend_.fd.get(), backend_watch_);
  backend_.fd.reset();
  if (load_) load_->active.fetch_sub(1, std::memory_order_relaxed);
  load_.reset();
}

void Connection::cut(std::string_view reason) {
  if (state_ == State::kEnded) return;
  end(state_ == State::kRelaying ? listener_->stats->ended : listener_->stats->failed, reason, true);
}

/// `reset`: both sides shall see that it did not end as it should have.
void Connection::end(Tally& tally, std::string_view reason, bool reset) {
  if (std::exchange(state_, State::kEnded) == State::kEnded) return;
  tally.add(reason);
  if (reset) {
    const linger at_once{.l_onoff = 1, .l_linger = 0};
    for (const Leg* leg : {&client_, &backend_}) {
      if (leg->fd.valid()) ::setsockopt(leg->fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    }
  }
  host_.loop().disarm(deadline_);
  if (client_watch_.watching()) host_.loop().unwatch(client_.fd.get(), client_watch_);
  client_.fd.reset();
  close_backend();
  if (source_counted_) listener_->gate->leave_source(source_.ip);
  listener_->gate->leave();
  host_.ended(*this);
}

}  // namespace mesh::relay
