// SPDX-License-Identifier: Apache-2.0
#include "discovery/xds.hpp"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/host.hpp"
#include "xds/library.hpp"

namespace mesh::discovery {
namespace {

using base::TimePoint;
using std::chrono::milliseconds;
using namespace std::chrono_literals;

constexpr milliseconds kCredentialInterval = 5s;  // between looks at the files of credentials
constexpr milliseconds kRefusedInterval = 1s;     // at most so often a standing refusal is said again

/// What the files of the settings say now.
struct Credentials {
  xds::Pems pems;
  std::string token;
  bool operator==(const Credentials&) const = default;
};

base::Result<std::string> read_credential(const std::string& file) {
  if (file.empty()) return std::string();
  return base::read_file(file, http::kMaxCredentialBytes);
}

base::Result<Credentials> read_credentials(const XdsSettings& settings) {
  Credentials credentials;
  credentials.token = MESH_TRY(read_credential(settings.token_file));
  const auto is_space = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  std::erase_if(credentials.token, is_space);
  if (!settings.token_file.empty() && credentials.token.empty()) {
    return base::fail(base::ErrorKind::kInvalid, "read " + settings.token_file + ": there is no token in it");
  }
  if (!settings.is_tls()) return credentials;
  credentials.pems.ca = MESH_TRY(read_credential(settings.tls.ca_file));
  credentials.pems.certificate = MESH_TRY(read_credential(settings.tls.certificate));
  credentials.pems.key = MESH_TRY(read_credential(settings.tls.key));
  return credentials;
}

xds::Node make_node(const XdsSettings& settings, const model::Place& here) {
  xds::Node node{.id = settings.node_id.empty() ? here.node : settings.node_id,
                 .cluster = settings.node_cluster,
                 .region = {},
                 .zone = here.zone,
                 .user_agent = "meshd",
                 .user_agent_version = MESH_VERSION,
                 .metadata = settings.metadata};
  if (node.id.empty()) node.id = base::host_name();
  if (node.id.empty()) node.id = "meshd";
  return node;
}

/// One stream.
class Run {
 public:
  Run(const XdsSettings& settings, XdsWatch& watch, Feed& feed) : settings_(settings), watch_(watch), feed_(feed) {}

  base::Result<void> go() {
    const xds::Library* const library = MESH_TRY(xds::library());
    credentials_ = MESH_TRY(read_credentials(settings_));
    credentials_due_ = base::steady_now() + kCredentialInterval;
    const auto stream = library->open({.server = settings_.target(),
                                       .tls = settings_.is_tls(),
                                       .pems = credentials_.pems,
                                       .server_name = settings_.tls.server_name,
                                       .verify = settings_.tls.verify,
                                       .token = credentials_.token,
                                       .keepalive = settings_.keepalive});
    watch_.restart(base::steady_now());
    while (!feed_.stopping()) {
      const TimePoint now = base::steady_now();
      MESH_CHECK(watch_.look(now));
      if (credentials_changed(now)) return {};
      tell();  // before the server is: a request repeats all names
      for (const xds::Request& request : watch_.take_requests(now)) stream->send(request);
      auto answer = MESH_TRY(stream->receive(pause(), feed_.wake_fd()));
      if (!answer) continue;
      watch_.answered(std::move(*answer), base::steady_now());
      heard_ = true;
    }
    return {};
  }

 private:
  /// A file that can't be read now is left to the next stream.
  bool credentials_changed(TimePoint now) {
    if (now < credentials_due_) return false;
    credentials_due_ = now + kCredentialInterval;
    const auto current = read_credentials(settings_);
    return current && *current != credentials_;
  }

  /// A stream that is up is as good as an answer: its server answered the last ping. A refusal stands beside what is in
  /// force.
  void tell() {
    for (base::Error& error : watch_.take_notes()) feed_.report(std::move(error));
    for (model::Refusal& refusal : watch_.take_refusals()) feed_.refused(std::move(refusal));
    const TimePoint now = base::steady_now();
    if (watch_.settled() && now >= pace_.due()) {
      pace_.begin();
      auto exchanged = watch_.take_exchanged();
      auto services = exchanged.empty() ? watch_.take_update() : std::nullopt;
      if (services || !exchanged.empty()) {
        services ? feed_.publish(std::move(*services)) : feed_.exchange(std::move(exchanged));
        pace_.end();
        note_synced(now);
      } else if ((heard_ && !watch_.refused()) || now >= alive_due_) {
        feed_.confirm();
        note_synced(now);
      }
      heard_ = false;
    }
    const auto& refused = watch_.refused();
    if (refused && (said_ != refused || (synced_over_ && now >= refused_due_))) {
      feed_.report(*refused);
      synced_over_ = false;
      refused_due_ = now + kRefusedInterval;
    }
    said_ = refused;
  }
  void note_synced(TimePoint now) {
    synced_over_ = true;
    alive_due_ = now + settings_.keepalive;
  }

  [[nodiscard]] milliseconds pause() const {
    const TimePoint now = base::steady_now();
    TimePoint until = std::min(watch_.due(), credentials_due_);
    if (heard_ && watch_.settled()) until = std::min(until, pace_.due());
    if (synced_over_ && watch_.refused()) until = std::min(until, refused_due_);
    return std::clamp(std::chrono::ceil<milliseconds>(until - now), 0ms, kCredentialInterval);
  }

  const XdsSettings& settings_;
  XdsWatch& watch_;
  Feed& feed_;
  Credentials credentials_;
  TimePoint credentials_due_{};
  PublishPace pace_;
  bool heard_ = false;  ///< An answer that the feed does not know of.
  TimePoint alive_due_ = TimePoint::max();
  std::optional<base::Error> said_;  ///< Of refusals.
  TimePoint refused_due_{};
  bool synced_over_ = false;  ///< The feed was told that all is well after that.
};

std::unique_ptr<Registry> make_xds(const XdsSettings& settings, RegistryContext context) {
  return std::make_unique<XdsRegistry>(settings, std::move(context));
}

}  // namespace

XdsRegistry::XdsRegistry(XdsSettings settings, RegistryContext context)
    : settings_(std::move(settings)),
      watch_(settings_, std::move(context.policy), make_node(settings_, context.here)) {}

base::Result<void> XdsRegistry::run(Feed& feed) { return Run(settings_, watch_, feed).go(); }

const RegistryType kXdsRegistry = registry_type<XdsSettings, make_xds, finish_xds_settings>(
    "xds", "Clusters of an xDS control plane, by aggregated discovery; of sources of type xds.", kXdsTable, "xds_rule",
    &kXdsRuleTable);

}  // namespace mesh::discovery
