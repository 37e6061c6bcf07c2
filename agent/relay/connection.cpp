// SPDX-License-Identifier: Apache-2.0
#include "relay/connection.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <string>
#include <tuple>
#include <utility>

#include "base/log.hpp"
#include "tls/client_hello.hpp"

namespace mesh::relay {
namespace {

constexpr base::log::Logger kLog{"relay"};

/// A slow start's small records come back after so long without a byte.
constexpr auto kRest = std::chrono::seconds(1);

constexpr std::string_view kNoAnswer = "no backend answers";

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

/// No backend's fault: another one would fare no better.
constexpr bool is_ours(int errnum) { return errnum == EMFILE || errnum == ENFILE; }

/// What a connect() that failed says of the endpoint; null: nothing.
constexpr EndpointLoad::Counter experience_of(int errnum) {
  switch (errnum) {
    case ECONNREFUSED:
    case ECONNRESET:
      return &EndpointLoad::refused;
    case ETIMEDOUT:
      return &EndpointLoad::timed_out;
    case EADDRNOTAVAIL:  // this host's own fault, as the next
    case ENOBUFS:
    case ENOMEM:
      return nullptr;
    default:
      return &EndpointLoad::unreachable;
  }
}

/// Why TLS with a backend failed, for people.
std::string remedy_for(const tls::Session& session, const std::optional<tls::CertificateFacts>& shown) {
  switch (session.failure()) {
    case tls::Failure::kNotTls:
      return "the backend does not speak TLS at this port; remove tls of the service, or name another port";
    case tls::Failure::kAlert:
      return "the backend's own log says what it did not like; perhaps it wants a certificate: set tls.certificate";
    case tls::Failure::kVersion:
    case tls::Failure::kCipher:
      return "set tls.min_version, or enable TLS 1.2 or 1.3 at the backend";
    case tls::Failure::kCertificate:
      break;
    default:
      return {};
  }
  if (session.error() == "name mismatch" && shown) {
    std::string names;
    for (const auto* list : {&shown->dns_names, &shown->addresses}) {
      for (const std::string& name : *list) names += (names.empty() ? "" : ", ") + name;
    }
    return "its certificate is for " + (names.empty() ? "nobody" : names) + "; set tls.server_name to one of them";
  }
  const std::string of = shown ? shown->subject : "the backend";
  if (session.error() == "certificate expired") return "renew the certificate of " + of;
  return "set tls.ca to who issued the certificate of " + of + (shown ? ": " + shown->issuer : "");
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

base::SocketAddress Connection::Leg::own_address() const {
  sockaddr_storage own{};
  socklen_t length = sizeof(own);
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&own), &length);
  return base::SocketAddress::from_sockaddr(own);
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
  if (is_mesh_client()) return identify_client();
  if (originates()) {
    if (!listener_->backend_tls) return fail("tls: its files are of no use");
    return route({});
  }
  if (listener_->tls) {
    session_ = &sessions_.emplace<tls::ServerSession>(listener_->tls);
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
    case State::kMeshHeader:
      return read_mesh_header();
    case State::kMeshReply:
      return read_mesh_reply();
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
    case State::kHandshaking:
    case State::kMeshReply:
      return handshake_failed("handshake timeout");
    default:
      return fail("hello timeout");
  }
}

/// What comes. `count`: of it; 0 at the end, or -errno. What is not taken the caller keeps.
std::span<const std::byte> Connection::take_from(Leg& leg, std::int64_t& count) {
  count = 0;
  if (!leg.readable) {
    count = -EAGAIN;
    return {};
  }
  const std::span<std::byte> buffer = host_.input_buffer();
  count = leg.receive(buffer);
  if (count <= 0) return {};
  return buffer.first(static_cast<std::size_t>(count));
}

/// Appends what came to what is not understood yet. False: nothing more for now, or the connection is over.
bool Connection::read_more() {
  std::int64_t count = 0;
  const auto bytes = take_from(client_, count);
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
  if (!header.destination) header.destination = client_.own_address();
  if (const auto* session = std::get_if<tls::ServerSession>(&sessions_)) {
    header.alpn = session->alpn();
    header.authority = session->server_name();
    const auto peer = session->peer();
    header.tls = ProxyTls{.version = std::string(session->version()),
                          .cipher = std::string(session->cipher()),
                          .certificate = peer.has_value(),
                          .common_name = peer ? peer->subject : std::string()};
  }
  return encode(header);
}

void Connection::handshake() {
  Leg& peer = outer();
  while (true) {
    if (flush_outer() == Flush::kFailed) return handshake_failed(gone(peer, "gave up"));
    std::span<const std::byte> bytes;
    if (unread_.empty()) {
      std::int64_t count = 0;
      bytes = take_from(peer, count);
      if (count == -EAGAIN) break;
      if (count <= 0) return handshake_failed(gone(peer, "gave up"));
    } else {
      if (!session_->output().empty()) break;
      bytes = unread_;
    }
    const std::span<std::byte> plain = host_.plain_buffer();
    const auto read = session_->read(bytes, plain);
    inner().pending.insert(inner().pending.end(), plain.begin(),
                           plain.begin() + static_cast<std::ptrdiff_t>(read.plain));
    const auto rest = bytes.subspan(read.taken);
    unread_ = std::vector<std::byte>(rest.begin(), rest.end());
    const Flush flushed = flush_outer();
    switch (session_->state()) {
      case tls::Session::State::kHandshake:
        if (flushed == Flush::kFailed) return handshake_failed(gone(peer, "gave up"));
        continue;
      case tls::Session::State::kFailed:
        complain();
        return handshake_failed(failure_label());
      case tls::Session::State::kClosed:
        peer.ended = true;
        [[fallthrough]];
      case tls::Session::State::kOpen:
        if (flushed == Flush::kFailed) return handshake_failed(gone(peer, "gave up"));
        listener_->stats->handshakes.add(std::string(session_->version()) + " " + std::string(session_->cipher()));
        if (session_->resumed()) ListenerStats::add(listener_->stats->resumed);
        if (is_mesh_client()) return begin_mesh();
        if (originates()) return begin_relaying();
        return accepted();
    }
  }
  // Nothing is read from the client meanwhile; but one that is gone needs no backend.
  if (originates() && client_.broken) fail("client gave up");
}

/// TLS with a client is open.
void Connection::accepted() {
  auto& session = std::get<tls::ServerSession>(sessions_);
  if (listener_->settings.mode == Mode::kMesh) {
    state_ = State::kMeshHeader;
    checked_by_ = listener_->tls;
    if (newer_) recheck(std::exchange(newer_, {}));
    return run();
  }
  if (!session.answers_challenge()) return route(session.server_name());
  session.finish();
  std::ignore = flush_outer();
  end(listener_->stats->ended, "acme challenge answered", false);
}

/// Few words, whoever the peer is: they are names of counters. Where only relays and backends are peers each reason has
/// its own.
std::string Connection::failure_label() const {
  const bool certificate = session_->failure() == tls::Failure::kCertificate;
  if (listener_->settings.mode != Mode::kTerminate && certificate) return "certificate: " + session_->error();
  return "tls: " + std::string(tls::to_string(session_->failure()));
}

std::string Connection::gone(const Leg& leg, std::string_view how) const {
  return std::string(name_of(leg)) + " " + std::string(how);
}

/// Says what an operator needs to put it right.
void Connection::complain() {
  if (is_mesh_client()) return complain_of_mesh();
  if (!originates()) {
    return kLog.info(
        "handshake failed",
        {{"listener", listener_->settings.name}, {"peer", source_.to_string()}, {"err", session_->error()}});
  }
  const auto shown = std::get<tls::ClientSession>(sessions_).peer();
  kLog.warn("handshake failed", {{"service", listener_->settings.name},
                                 {"peer", backend_address_.to_string()},
                                 {"server_name", listener_->backend_name},
                                 {"err", session_->error()},
                                 {"remedy", remedy_for(*session_, shown)}});
}

/// Of the side that TLS is spoken with. A backend may be replaced by another: the client has sent nothing yet.
void Connection::handshake_failed(std::string reason) {
  if (!originates()) return fail(reason);
  backend_failed(std::move(reason));
}

void Connection::route(std::string_view server_name) {
  target_ = listener_->target_for(server_name);
  if (!target_) return fail("no service for this name");
  state_ = State::kDialing;
  dial();
}

/// Begins to connect to a backend that was not tried yet.
void Connection::dial() {
  state_ = State::kDialing;
  while (tried_.size() < kDialsMax) {
    const auto choice = target_->choose(host_.random(), key_of(source_.ip), tried_);
    if (!choice) break;
    if (!tried_.empty()) ListenerStats::add(listener_->stats->retries);
    tried_.push_back(choice->route);
    backend_address_ = choice->address;
    load_ = choice->load;
    load_->active.fetch_add(1, std::memory_order_relaxed);
    load_->count(&EndpointLoad::begun);
    return dial({choice->address.ip, is_mesh_client() ? listener_->mesh_client->port : choice->address.port});
  }
  fail(tried_.empty() ? "no backend is up" : backend_problem_);
}

void Connection::dial(const base::SocketAddress& backend) {
  auto dialed = host_.dial(backend);
  if (!dialed) return on_dialed(dialed.error());
  backend_.fd = std::move(*dialed);
  backend_.readable = backend_.writable = backend_.hung_up = backend_.broken = false;
  host_.loop().watch(backend_.fd.get(), backend_watch_);
  host_.loop().arm(deadline_, host_.loop().now() + listener_->settings.limits.connect_timeout);
}

void Connection::on_dialed(int errnum) {
  if (errnum != 0 && checked_by_ != nullptr) {
    close_backend();
    return refuse_mesh(MeshReply::kUnreachable,
                       {.source = source_, .destination = destination_, .service = mesh_service_});
  }
  if (is_ours(errnum)) return fail("limit: descriptors");
  if (errnum != 0) return backend_failed(std::string(kNoAnswer), experience_of(errnum));
  if (originates()) return begin_session();
  if (checked_by_ != nullptr) {
    reply_mesh(MeshReply::kConnected);
    const auto client = std::get<tls::ServerSession>(sessions_).peer_id();
    if (client) count_identities(mesh_service_, *client, {});
  }
  if (listener_->settings.proxy_protocol.send) {
    const std::string header = proxy_header();
    const auto bytes = std::as_bytes(std::span(header));
    backend_.pending.insert(backend_.pending.begin(), bytes.begin(), bytes.end());
  }
  begin_relaying();
}

void Connection::begin_session() {
  if (is_mesh_client()) {
    session_ = &sessions_.emplace<tls::ClientSession>(peering_->context, "", backend_address_.ip.to_string());
  } else {
    session_ = &sessions_.emplace<tls::ClientSession>(listener_->backend_tls, listener_->backend_name,
                                                      backend_address_.to_string());
  }
  state_ = State::kHandshaking;
  host_.loop().arm(deadline_, host_.loop().now() + listener_->settings.limits.handshake_timeout);
  handshake();
}

/// Tries another.
void Connection::backend_failed(std::string reason, EndpointLoad::Counter experience) {
  if (load_ && experience != nullptr) load_->count(experience);
  close_backend();
  if (originates()) {
    session_ = nullptr;
    sessions_.emplace<std::monostate>();
    unread_.clear();
    client_.pending.clear();
    backend_.ended = false;
  }
  backend_problem_ = std::move(reason);
  dial();
}

void Connection::begin_relaying() {
  target_.reset();
  tried_ = {};
  backend_problem_ = {};
  ListenerStats::add(listener_->stats->relayed);
  state_ = State::kRelaying;
  active_at_ = relayed_since_ = host_.loop().now();
  if (load_) {
    load_->count(&EndpointLoad::established);
    load_->open.fetch_add(1, std::memory_order_relaxed);
  }
  host_.loop().arm(deadline_, active_at_ + listener_->settings.limits.idle_timeout);
  relay();
}

void Connection::relay() {
  const base::TimePoint now = host_.loop().now();
  if (session_ != nullptr && now - active_at_ >= kRest) session_->rested();
  std::size_t in = kTurnBytes;
  std::size_t out = kTurnBytes;
  if (!relay_in(in) || !relay_out(out)) return;
  // Who has said its last word is not read any more, and so would not be missed.
  if (client_.broken && backend_.told) return end(listener_->stats->ended, "client reset", true);
  if (backend_.broken && backend_.ended) return end(listener_->stats->ended, "backend reset", true);
  // Answers of TLS itself may have come up, whichever way bytes went.
  if (session_ != nullptr && flush_outer() == Flush::kFailed) {
    return end(listener_->stats->ended, gone(outer(), "reset"), true);
  }
  if (in != kTurnBytes || out != kTurnBytes) active_at_ = now;
  if (client_.told && backend_.told) return end(listener_->stats->ended, "closed", false);
  if (in == 0 || out == 0) host_.wants_turn(*this);
}

void Connection::count(const Leg& from, std::size_t bytes) const {
  ListenerStats& stats = *listener_->stats;
  ListenerStats::add(&from == &client_ ? stats.bytes_received : stats.bytes_sent, bytes);
}

/// From outside to inside. False: the connection is over.
bool Connection::relay_in(std::size_t& budget) {
  Tally& ended = listener_->stats->ended;
  Leg& from = outer();
  Leg& to = inner();
  while (budget > 0 && !to.told) {
    switch (to.flush()) {
      case Flush::kBlocked:
        return true;
      case Flush::kFailed:
        return end(ended, gone(to, "reset"), true), false;
      case Flush::kDone:
        break;
    }
    if (from.ended) {
      ::shutdown(to.fd.get(), SHUT_WR);
      to.told = true;
      return true;
    }
    std::span<const std::byte> bytes = unread_;
    if (unread_.empty()) {
      std::int64_t count = 0;
      bytes = take_from(from, count);
      if (count == -EAGAIN) return true;
      if (count < 0) return end(ended, gone(from, why(static_cast<int>(-count))), true), false;
      if (count == 0) {
        from.ended = true;
        continue;
      }
    }
    const std::size_t came = bytes.size();
    std::span<const std::byte> plain = bytes;
    if (session_ != nullptr) {
      const auto buffer = host_.plain_buffer();
      const auto read = session_->read(bytes, buffer);
      plain = buffer.first(read.plain);
      const auto rest = bytes.subspan(read.taken);
      if (!rest.empty() || !unread_.empty()) unread_ = std::vector<std::byte>(rest.begin(), rest.end());
      if (session_->state() == tls::Session::State::kFailed) {
        std::ignore = flush_outer();  // the alert
        return end(ended, failure_label(), true), false;
      }
      from.ended = session_->state() == tls::Session::State::kClosed;
      if (!unread_.empty() && read.taken == 0 && flush_outer() != Flush::kDone) return true;
    }
    count(from, plain.size());
    budget -= std::min(budget, came);
    if (to.send(plain) == Flush::kFailed) return end(ended, gone(to, "reset"), true), false;
  }
  return true;
}

/// From inside to outside. False: the connection is over.
bool Connection::relay_out(std::size_t& budget) {
  Tally& ended = listener_->stats->ended;
  Leg& from = inner();
  Leg& to = outer();
  while (budget > 0 && !to.told) {
    switch (flush_outer()) {
      case Flush::kBlocked:
        return true;
      case Flush::kFailed:
        return end(ended, gone(to, "reset"), true), false;
      case Flush::kDone:
        break;
    }
    if (!unsent_.empty()) {
      unsent_.erase(unsent_.begin(), unsent_.begin() + static_cast<std::ptrdiff_t>(session_->write(unsent_)));
      if (unsent_.empty()) unsent_ = {};
      continue;
    }
    if (from.ended) {
      if (session_ != nullptr && !std::exchange(finished_, true)) {
        session_->finish();
        continue;
      }
      ::shutdown(to.fd.get(), SHUT_WR);
      to.told = true;
      return true;
    }
    if (!from.readable) return true;
    const std::span<std::byte> buffer = host_.plain_buffer();
    const std::int64_t got = from.receive(buffer);
    if (got == -EAGAIN) return true;
    if (got < 0) return end(ended, gone(from, why(static_cast<int>(-got))), true), false;
    if (got == 0) {
      from.ended = true;
      continue;
    }
    const auto bytes = std::span<const std::byte>(buffer).first(static_cast<std::size_t>(got));
    count(from, bytes.size());
    budget -= std::min(budget, bytes.size());
    if (session_ != nullptr) {
      const auto rest = bytes.subspan(session_->write(bytes));
      if (!rest.empty()) unsent_.assign(rest.begin(), rest.end());
    } else if (to.send(bytes) == Flush::kFailed) {
      return end(ended, gone(to, "reset"), true), false;
    }
  }
  return true;
}

Connection::Flush Connection::flush_outer() {
  Leg& leg = outer();
  if (session_ == nullptr) return leg.flush();
  while (!session_->output().empty()) {
    if (!leg.writable) return Flush::kBlocked;
    const std::int64_t sent = leg.send_some(session_->output());
    if (sent < 0) return Flush::kFailed;
    session_->sent(static_cast<std::size_t>(sent));
  }
  return Flush::kDone;
}

void Connection::close_backend() {
  if (backend_watch_.watching()) host_.loop().unwatch(backend_.fd.get(), backend_watch_);
  backend_.fd.reset();
  if (load_) load_->active.fetch_sub(1, std::memory_order_relaxed);
  load_.reset();
}

base::Duration Connection::age_limit(std::chrono::seconds max_age) const {
  base::Random random(key_of(source_.ip) ^ source_.port);
  const auto whole = std::chrono::duration_cast<base::Duration>(max_age);
  return whole + base::Duration(static_cast<std::int64_t>(random.uniform() * static_cast<double>(whole.count()) / 5));
}

void Connection::cut(std::string_view reason) {
  if (state_ == State::kEnded) return;
  end(state_ == State::kRelaying ? listener_->stats->ended : listener_->stats->failed, reason, true);
}

/// `reset`: both sides shall see that it did not end as it should have.
void Connection::end(Tally& tally, std::string_view reason, bool reset) {
  const State before = std::exchange(state_, State::kEnded);
  if (before == State::kEnded) return;
  if (before == State::kRelaying && load_) {
    load_->count(reset && backend_.broken ? &EndpointLoad::cut_off : &EndpointLoad::closed);
    load_->open.fetch_sub(1, std::memory_order_relaxed);
  }
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
