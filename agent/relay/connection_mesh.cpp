// SPDX-License-Identifier: Apache-2.0
// What connections from other nodes' relays, and to them, do before they are relayed as all others.
#include <cerrno>
#include <string>
#include <tuple>
#include <utility>

#include "base/log.hpp"
#include "relay/connection.hpp"

namespace mesh::relay {
namespace {

constexpr base::log::Logger kLog{"relay"};

}  // namespace

/// Of what comes from outside once the session is open. It is collected where it will be sent from: behind what relays
/// say to each other comes what the application says.
Connection::Came Connection::decrypt_more() {
  Leg& from = outer();
  if (from.ended || flush_outer() == Flush::kFailed) return Came::kEnd;
  if (!unread_.empty() && !session_->output().empty()) return Came::kNothing;  // it takes nothing before that is sent
  std::span<const std::byte> bytes = unread_;
  if (unread_.empty()) {
    std::int64_t count = 0;
    bytes = take_from(from, count);
    if (count == -EAGAIN) return Came::kNothing;
    if (count <= 0) return Came::kEnd;
  }
  const std::span<std::byte> plain = host_.plain_buffer();
  const auto read = session_->read(bytes, plain);
  std::vector<std::byte>& to = inner().pending;
  to.insert(to.end(), plain.begin(), plain.begin() + static_cast<std::ptrdiff_t>(read.plain));
  const auto rest = bytes.subspan(read.taken);
  unread_ = std::vector<std::byte>(rest.begin(), rest.end());
  if (session_->state() == tls::Session::State::kFailed) return Came::kFailure;
  from.ended = session_->state() == tls::Session::State::kClosed;
  return Came::kSome;
}

void Connection::read_mesh_header() {
  while (true) {
    const ProxyParse parsed = parse_proxy_header(backend_.pending);
    if (parsed.state == ProxyState::kRefused) {
      kLog.warn("no header in a connection of the mesh",
                {{"peer", source_.to_string()}, {"err", std::string(parsed.problem)}});
      return refuse_mesh(MeshReply::kHeader, {});
    }
    if (parsed.state == ProxyState::kHeader) {
      backend_.pending.erase(backend_.pending.begin(),
                             backend_.pending.begin() + static_cast<std::ptrdiff_t>(parsed.size));
      return judge_mesh(parsed.header);
    }
    switch (decrypt_more()) {
      case Came::kSome:
        continue;
      case Came::kNothing:
        return;
      case Came::kEnd:
        return fail("client gave up");
      case Came::kFailure:
        return fail("tls: " + std::string(tls::to_string(session_->failure())));
    }
  }
}

void Connection::judge_mesh(const ProxyHeader& header) {
  const auto client = std::get<tls::ServerSession>(sessions_).peer_id();
  if (!client || !header.source || !header.destination) return refuse_mesh(MeshReply::kHeader, header);
  const auto reached = client_.own_address();
  const MeshVerdict verdict = judge(*listener_->mesh, header.service, *client, *header.destination, reached.ip);
  if (verdict.reply != MeshReply::kConnected) return refuse_mesh(verdict.reply, header);
  if (verdict.dry_run) {
    listener_->stats->dry_run.add(header.service);
    if (listener_->said->first(header.service + " " + client->to_string())) {
      kLog.warn(
          "dry run: an identity that is not allowed is let in; not said again",
          {{"service", header.service}, {"identity", client->to_string()}, {"source", header.source->to_string()}});
    }
  }
  mesh_service_ = header.service;
  destination_ = header.destination;
  state_ = State::kDialing;
  dial(*destination_);
}

/// Both sides name the reason.
void Connection::refuse_mesh(MeshReply reply, const ProxyHeader& header) {
  const auto client = std::get<tls::ServerSession>(sessions_).peer_id();
  kLog.info("connection of the mesh refused",
            {{"reason", to_string(reply)},
             {"identity", client ? client->to_string() : "none"},
             {"service", header.service},
             {"source", header.source ? header.source->to_string() : "unknown"},
             {"destination", header.destination ? header.destination->to_string() : "unknown"},
             {"peer", source_.to_string()}});
  reply_mesh(reply);
  session_->finish();
  std::ignore = flush_outer();
  fail("mesh: " + std::string(to_string(reply)));
}

void Connection::reply_mesh(MeshReply reply) {
  const auto byte = static_cast<std::byte>(reply);
  session_->write({&byte, 1});
}

void Connection::recheck(const ListenerPtr& now) {
  if (state_ == State::kEnded || now->settings.mode != listener_->settings.mode) return;
  if (is_mesh_client() ? state_ != State::kRelaying : state_ == State::kHandshaking) {
    newer_ = now;
    return;
  }
  close_if_refused(now);
}

void Connection::close_if_refused(const ListenerPtr& now) {
  if (!is_mesh_client() && !now->tls) return;
  const std::string_view refusal = is_mesh_client() ? refusal_of_server(now) : refusal_of_client(now);
  if (!is_mesh_client()) checked_by_ = now->tls;
  if (refusal.empty()) return;
  const bool client = is_mesh_client();
  const auto peer =
      client ? std::get<tls::ClientSession>(sessions_).peer_id() : std::get<tls::ServerSession>(sessions_).peer_id();
  kLog.warn("a connection of the mesh is closed: its peer is not believed any more",
            {{"reason", refusal},
             {"identity", peer ? peer->to_string() : "none"},
             {"service", client ? listener_->settings.name : mesh_service_}});
  cut("mesh: " + std::string(refusal));
}

std::string_view Connection::refusal_of_client(const ListenerPtr& now) const {
  const auto& session = std::get<tls::ServerSession>(sessions_);
  if (checked_by_ != now->tls) {
    if (const std::string_view refusal = now->tls->refuses(session); !refusal.empty()) return refusal;
  }
  const auto client = session.peer_id();
  if (destination_ && client &&
      judge(*now->mesh, mesh_service_, *client, *destination_, destination_->ip).reply == MeshReply::kNotAllowed) {
    return to_string(MeshReply::kNotAllowed);
  }
  return {};
}

std::string_view Connection::refusal_of_server(const ListenerPtr& now) {
  const auto& session = std::get<tls::ClientSession>(sessions_);
  const MeshIdentities& identities = *now->mesh_client->identities;
  const auto rule = identify(identities.rules, peering_->owner);
  if (!rule || identities.rules[*rule].id != peering_->client) return "the client has another identity";
  const auto& context = identities.contexts[*rule];
  if (context && context != std::exchange(peering_->checked_by, context)) {
    if (const std::string_view refusal = context->refuses(session); !refusal.empty()) return refusal;
  }
  const auto server = session.peer_id();
  return server && now->mesh_client->may_answer(*server) ? std::string_view() : "the server has another identity";
}

void Connection::count_identities(std::string_view service, const tls::SpiffeId& client,
                                  std::string_view server) const {
  listener_->stats->identities.add(std::string(service) + " " + client.to_string() + " " + std::string(server));
}

/// Of an application: the kernel says who made its socket, and the configuration who that is.
void Connection::identify_client() {
  const MeshClient& mesh = *listener_->mesh_client;
  auto owner = mesh.find_owner(client_.fd.get());
  if (!owner && owner.error().kind == base::ErrorKind::kNotFound) {
    return fail("identity: the client has closed already");
  }
  if (!owner) {
    // A kind of failure once: clients can provoke some, and all are counted.
    const auto kind = static_cast<int>(owner.error().kind);
    if (listener_->said->first(listener_->settings.name + " owner unknown " + std::to_string(kind))) {
      kLog.warn("no identity for a client; not said again",
                {{"service", listener_->settings.name}, {"err", owner.error()}});
    }
    return fail("identity: owner unknown");
  }
  const auto rule = identify(mesh.identities->rules, *owner);
  if (!rule) {
    if (listener_->said->first(listener_->settings.name + " " + owner->to_string())) {
      kLog.warn("no identity for a client; not said again", {{"service", listener_->settings.name},
                                                             {"owner", owner->to_string()},
                                                             {"remedy", remedy_without_identity(*owner)}});
    }
    return fail("identity: none for the client");
  }
  const auto& context = mesh.identities->contexts[*rule];
  if (!context) return fail("identity: its files are of no use");
  peering_ = std::make_unique<MeshPeering>(std::move(*owner), mesh.identities->rules[*rule].id, context, context);
  route({});
}

/// The session with the other node's relay is open: is it one that may answer, and does it take the connection?
void Connection::begin_mesh() {
  const auto& session = std::get<tls::ClientSession>(sessions_);
  if (session.alpn() != kMeshProtocol) {
    kLog.warn("not a relay of the mesh", {{"service", listener_->settings.name},
                                          {"peer", backend_address_.to_string()},
                                          {"remedy", "another program has the port of relay.mesh there"}});
    return backend_failed("tls: alpn");
  }
  const auto server = session.peer_id();
  if (!server || !listener_->mesh_client->may_answer(*server)) {
    kLog.warn("another node's relay has an identity that may not answer",
              {{"service", listener_->settings.name},
               {"peer", backend_address_.to_string()},
               {"identity", server ? server->to_string() : "none"},
               {"remedy", "add it to tls.server_ids of the service, or issue another certificate to that node"}});
    return backend_failed("identity: the server's is not allowed");
  }
  const std::string header =
      encode({.source = source_, .destination = backend_address_, .service = listener_->settings.name});
  session_->write(std::as_bytes(std::span(header)));
  state_ = State::kMeshReply;
  read_mesh_reply();
}

void Connection::read_mesh_reply() {
  while (client_.pending.empty()) {
    switch (decrypt_more()) {
      case Came::kSome:
        continue;
      case Came::kNothing:
        if (client_.broken) fail("client gave up");
        return;
      case Came::kEnd:
        return backend_failed(gone(backend_, "gave up"));
      case Came::kFailure:
        complain_of_mesh();
        return backend_failed(failure_label());
    }
  }
  const auto& session = std::get<tls::ClientSession>(sessions_);
  const auto server = session.peer_id();
  const auto reply = static_cast<MeshReply>(client_.pending.front());
  if (reply == MeshReply::kConnected) {
    if (newer_) close_if_refused(std::exchange(newer_, {}));
    if (state_ == State::kEnded) return;
    client_.pending.erase(client_.pending.begin());
    count_identities(listener_->settings.name, peering_->client, server ? server->to_string() : "");
    begin_relaying();
    return;
  }
  kLog.warn("another node's relay refuses a connection", {{"reason", to_string(reply)},
                                                          {"service", listener_->settings.name},
                                                          {"identity", peering_->client.to_string()},
                                                          {"owner", peering_->owner.to_string()},
                                                          {"endpoint", backend_address_.to_string()}});
  session_->finish();
  std::ignore = flush_outer();
  backend_failed("mesh: " + std::string(to_string(reply)));
}

void Connection::complain_of_mesh() const {
  std::string_view remedy = "the log of the relay there says more";
  if (session_->failure() == tls::Failure::kCertificate) {
    remedy = "the bundles of relay.mesh.trust say who is believed; perhaps the node there needs a new certificate";
  } else if (session_->failure() == tls::Failure::kNotTls) {
    remedy = "another program has the port of relay.mesh there";
  }
  kLog.warn("handshake failed", {{"service", listener_->settings.name},
                                 {"peer", backend_address_.to_string()},
                                 {"identity", peering_->client.to_string()},
                                 {"err", session_->error()},
                                 {"remedy", remedy}});
}

}  // namespace mesh::relay
