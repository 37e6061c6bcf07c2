// SPDX-License-Identifier: Apache-2.0
// What connections from other nodes' relays do before they are relayed as all others.
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

/// What the session decrypts is collected where it will be sent from: behind the header comes what the client says.
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
    if (client_.ended || flush_outer() == Flush::kFailed) return fail("client gave up");
    if (!unread_.empty() && !session_->output().empty()) return;  // it takes nothing before that is sent
    std::span<const std::byte> bytes = unread_;
    if (unread_.empty()) {
      std::int64_t count = 0;
      bytes = take_from(client_, count);
      if (count == -EAGAIN) return;
      if (count <= 0) return fail("client gave up");
    }
    const std::span<std::byte> plain = host_.plain_buffer();
    const auto read = session_->read(bytes, plain);
    backend_.pending.insert(backend_.pending.end(), plain.begin(),
                            plain.begin() + static_cast<std::ptrdiff_t>(read.plain));
    const auto rest = bytes.subspan(read.taken);
    unread_ = std::vector<std::byte>(rest.begin(), rest.end());
    if (session_->state() == tls::Session::State::kFailed) {
      return fail("tls: " + std::string(tls::to_string(session_->failure())));
    }
    client_.ended = session_->state() == tls::Session::State::kClosed;
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
  if (listener_->settings.mode != Mode::kMesh || state_ == State::kEnded || !now->tls) return;
  if (state_ == State::kHandshaking) {
    newer_ = now;
    return;
  }
  std::string_view refusal;
  if (checked_by_ != now->tls) refusal = now->tls->refuses(std::get<tls::ServerSession>(sessions_));
  checked_by_ = now->tls;
  const auto client = std::get<tls::ServerSession>(sessions_).peer_id();
  if (refusal.empty() && destination_ && client &&
      judge(*now->mesh, mesh_service_, *client, *destination_, destination_->ip).reply == MeshReply::kNotAllowed) {
    refusal = to_string(MeshReply::kNotAllowed);
  }
  if (refusal.empty()) return;
  kLog.warn("a connection of the mesh is closed: its peer is not believed any more",
            {{"reason", refusal}, {"identity", client ? client->to_string() : "none"}, {"service", mesh_service_}});
  cut("mesh: " + std::string(refusal));
}

}  // namespace mesh::relay
