// SPDX-License-Identifier: Apache-2.0
#include "app/config_keys.hpp"

#include <algorithm>
#include <array>
#include <bit>

#include "app/relay_keys.hpp"
#include "names/message.hpp"

namespace mesh::app {

using namespace std::chrono_literals;
using datapath::TableSizes;
using discovery::between;
using discovery::choice_key;
using discovery::Decoder;
using discovery::group_key;
using discovery::Key;
using discovery::key;
using discovery::KeyType;
using discovery::Table;
using discovery::table_key;
using discovery::Value;

namespace {

constexpr std::array<std::string_view, 3> kLoops = {"auto", "io_uring", "epoll"};
constexpr std::array<std::string_view, 4> kLogLevels = {"debug", "info", "warn", "error"};
constexpr std::array<std::string_view, 3> kLogFormats = {"auto", "text", "json"};

const AgentSettings kFreshAgent{};
const TableSizes kFreshSizes{};
const CanarySettings kFreshCanary{};
const NamesSettings kFreshNames{};
const XdsServerSettings kFreshXds{};
const CertificateFiles kFreshCertificate{};

bool is_below(std::string_view path, std::string_view ancestor) {
  return ancestor == "/" ||
         (path.starts_with(ancestor) && path.size() > ancestor.size() && path[ancestor.size()] == '/');
}

/// A program attached to a cgroup runs for everything below it, so nested entries would run twice.
void decode_cgroups(Decoder& decoder, const Key&, const Value& value, void* target) {
  if (value.kind == Value::Kind::kNull || !decoder.is_list(value)) return;
  std::vector<std::pair<std::string, const Value*>> written;
  std::vector<std::string> texts;
  if (!decoder.strings(value, texts)) return;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::string normal = normal_cgroup(texts[i]);
    if (!normal.empty()) {
      written.emplace_back(normal, &value.items[i]);
      continue;
    }
    decoder.element(value.items[i], i, [&](const Value& item) {
      decoder.error(item, "'" + texts[i] + "' is not a path below the cgroup2 mount",
                    "write it as /system.slice/shop.service");
    });
  }
  std::vector<std::string> kept;
  for (std::size_t i = 0; i < written.size(); ++i) {
    const auto& [path, item] = written[i];
    const auto covers = [&](std::size_t other) {
      return is_below(path, written[other].first) || (other < i && written[other].first == path);
    };
    std::size_t other = 0;
    while (other < written.size() && (other == i || !covers(other))) ++other;
    if (other == written.size()) {
      kept.push_back(path);
    } else {
      decoder.warn(*item,
                   path + (written[other].first == path ? " stands twice" : " is covered by " + written[other].first),
                   "remove it");
    }
  }
  static_cast<AgentSettings*>(target)->cgroups = std::move(kept);
}

template <auto Member>
using ObjectOf = typename discovery::keys_detail::MemberTraits<decltype(Member)>::Object;

template <auto Member>
void decode_path(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (!text.starts_with('/')) {
    decoder.error(value, "a path starts with /", text.empty() ? "remove the key for its default" : "");
    return;
  }
  static_cast<ObjectOf<Member>*>(target)->*Member = std::move(text);
}

/// A path that may be empty.
template <auto Member>
void decode_optional_path(Decoder& decoder, const Key& key, const Value& value, void* target) {
  if (value.kind == Value::Kind::kString && value.text.empty()) {
    (static_cast<ObjectOf<Member>*>(target)->*Member).clear();
  } else {
    decode_path<Member>(decoder, key, value, target);
  }
}

void decode_listen(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  if (!text.empty()) {
    const auto address = base::SocketAddress::parse(text);
    if (!address) {
      decoder.error(value, address.error().message, "write it as 127.0.0.1:9464, or \"\" for no listener");
      return;
    }
  }
  static_cast<AgentSettings*>(target)->metrics_listen = std::move(text);
}

bool is_loopback(const base::IpAddress& ip) {
  return ip.is_v4() ? ip.bytes[12] == 127 : ip == *base::IpAddress::parse("::1");
}

void decode_xds_listen(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  const bool is_path = text.starts_with("unix:///") && text.size() > 8;
  if (!text.empty() && !is_path) {
    const auto address = base::SocketAddress::parse(text);
    if (!address || address->port == 0 || !is_loopback(address->ip)) {
      decoder.error(value, "'" + text + "' is not an address of loopback with a port, nor a unix socket",
                    "write it as 127.0.0.1:18000 or unix:///run/meshd/xds.sock, or \"\" for no server");
      return;
    }
  }
  static_cast<XdsServerSettings*>(target)->listen = std::move(text);
}

template <std::string CanarySettings::* Member, bool V4>
void decode_canary_address(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  const auto ip = base::IpAddress::parse(text);
  if (!ip || ip->is_v4() != V4 || ip->is_unspecified()) {
    decoder.error(value, "'" + text + "' is not an " + (V4 ? "IPv4" : "IPv6") + " address",
                  "name one that nothing uses, as " + kFreshCanary.*Member);
    return;
  }
  static_cast<CanarySettings*>(target)->*Member = std::move(text);
}

void decode_domain(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::string text;
  if (!decoder.string(key, value, text)) return;
  const bool plain = std::ranges::all_of(
      text, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.'; });
  if (!plain || text.empty() || !names::is_name(text)) {
    decoder.error(value, "'" + text + "' is not a domain in lower case", "write it as mesh or mesh.example");
    return;
  }
  static_cast<NamesSettings*>(target)->domain = std::move(text);
}

void decode_resolvers(Decoder& decoder, const Key&, const Value& value, void* target) {
  std::vector<std::string> texts;
  if (!decoder.strings(value, texts)) return;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto ip = base::IpAddress::parse(texts[i]);
    if (ip && !ip->is_unspecified()) continue;
    decoder.element(value.items[i], i, [&](const Value& item) {
      decoder.error(item, "'" + texts[i] + "' is not an IP address", "write it as 10.96.0.10");
    });
    return;
  }
  static_cast<NamesSettings*>(target)->resolvers = std::move(texts);
}

template <auto Member>
void decode_power_of_two(Decoder& decoder, const Key& key, const Value& value, void* target) {
  std::int64_t number = 0;
  if (!decoder.integer(key, value, number)) return;
  const auto wanted = static_cast<std::uint64_t>(number);
  if (!std::has_single_bit(wanted)) {
    decoder.error(value, value.text + " is not a power of two", "use " + std::to_string(std::bit_ceil(wanted)));
    return;
  }
  static_cast<TableSizes*>(target)->*Member = static_cast<std::uint32_t>(number);
}

void decode_vip_range(Decoder& decoder, const Key&, const Value& value, void* target) {
  std::vector<std::string> texts;
  if (!decoder.strings(value, texts)) return;
  auto& settings = *static_cast<AgentSettings*>(target);
  bool have4 = false;
  bool have6 = false;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    decoder.element(value.items[i], i, [&](const Value& item) {
      const auto range = discovery::VipRange::parse(texts[i]);
      if (!range) {
        decoder.error(item, range.error().message, range.error().remedy);
        return;
      }
      const bool v4 = range->ip.is_v4();
      if (std::exchange(v4 ? have4 : have6, true)) decoder.error(item, "a range of this family stands already");
      (v4 ? settings.vips4 : settings.vips6) = *range;
    });
  }
}

Value encode_vip_range(const Key&, const void* target, discovery::Secrets) {
  const auto& settings = *static_cast<const AgentSettings*>(target);
  return discovery::keys_detail::encode_strings({settings.vips4.to_string(), settings.vips6.to_string()});
}

constexpr Key kTlsKeys[] = {
    with_decode(key<&CertificateFiles::certificate>("certificate", "PEM file of the certificate, then its chain."),
                decode_optional_path<&CertificateFiles::certificate>),
    with_decode(key<&CertificateFiles::key>("key", "PEM file of its private key, without passphrase."),
                decode_optional_path<&CertificateFiles::key>),
};
const Table kTlsTable{.name = "tls", .keys = kTlsKeys, .defaults = &kFreshCertificate};

constexpr Key kMetricsKeys[] = {
    with_decode(key<&AgentSettings::metrics_listen>("listen",
                                                    "Address of HTTP for /metrics, /livez and /readyz; \"\" is none. "
                                                    "Beyond loopback it needs tls, token_file or both."),
                decode_listen),
    with_decode(
        key<&AgentSettings::metrics_token_file>("token_file", "File with the bearer token that requests must have."),
        decode_optional_path<&AgentSettings::metrics_token_file>),
    table_key<&AgentSettings::metrics_tls>("tls", "HTTPS instead of HTTP; both files are read again when they change.",
                                           kTlsTable),
    key<&AgentSettings::metrics_max_series>(
        "max_series", "Series in one answer; what is beyond is dropped and counted.", {100, 10'000'000}),
    key<&AgentSettings::metrics_per_backend>(
        "per_backend", "Also series per backend, with its address as a label; ten for each that is in use."),
    key<&AgentSettings::metrics_istio>("istio", "Also the istio_tcp_* family, from which Kiali draws its graph."),
    key<&AgentSettings::metrics_istio_cluster>(
        "istio_cluster", "Of source and destination in that family: what Kiali knows this cluster by."),
};
const Table kMetricsTable{.name = "metrics", .keys = kMetricsKeys, .defaults = &kFreshAgent};

constexpr Key kLogKeys[] = {
    choice_key<&AgentSettings::log_level>("level", "The least important lines to write.", kLogLevels),
    choice_key<&AgentSettings::log_format>("format", "auto is text on a terminal and JSON elsewhere.", kLogFormats),
};
const Table kLogTable{.name = "log", .keys = kLogKeys, .defaults = &kFreshAgent};

constexpr Key kLimitKeys[] = {
    key<&TableSizes::services>("services", "Services in the kernel tables.", {16, kMaxTable}),
    key<&TableSizes::ranges>(
        "ranges", "Slot ranges; twice the services unless given, because an update holds the old and the new one.",
        {32, kMaxTable}),
    key<&TableSizes::slots>("slots", "Slots of all services together; see meshd estimate.", {1024, kMaxTable}),
    key<&TableSizes::backends>("backends", "Endpoints of all services together.", {64, kMaxTable}),
    with_decode(key<&TableSizes::owners>("owners",
                                         "Sockets with a record at one time; a power of two. Leave a quarter free: "
                                         "a record has 32 places where it may be.",
                                         {64, kMaxTable}),
                decode_power_of_two<&TableSizes::owners>),
    key<&TableSizes::affinities>("affinities", "Clients remembered for session affinity.", {64, kMaxTable}),
    with_decode(key<&TableSizes::events>(
                    "events", "Bytes of the ring that samples of connections pass; a power of two.", {65536, 1U << 30}),
                decode_power_of_two<&TableSizes::events>),
    with_decode(key<&TableSizes::live_shards>("live_shards",
                                              "Copies of the service counters, to keep CPUs apart; a power of two.",
                                              {1, MESH_LIVE_SHARDS_MAX}),
                decode_power_of_two<&TableSizes::live_shards>),
};
const Table kLimitsTable{.name = "limits", .keys = kLimitKeys, .defaults = &kFreshSizes};

constexpr Key kCanaryKeys[] = {
    key<&CanarySettings::enabled>("enabled", "Prove with real connects that the hooks work."),
    key<&CanarySettings::interval>("interval", "Time between two proofs.", between(100ms, 1min)),
    with_decode(key<&CanarySettings::address4>("address4", "IPv4 address that nothing else uses."),
                decode_canary_address<&CanarySettings::address4, true>),
    with_decode(key<&CanarySettings::address6>("address6", "IPv6 address that nothing else uses."),
                decode_canary_address<&CanarySettings::address6, false>),
};
const Table kCanaryTable{.name = "canary", .keys = kCanaryKeys, .defaults = &kFreshCanary};

constexpr Key kNamesKeys[] = {
    key<&NamesSettings::enabled>("enabled", "Answer <service>.mesh for processes in the attached cgroups."),
    with_decode(key<&NamesSettings::domain>("domain", "What the names of services end with."), decode_domain),
    with_decode(key<&NamesSettings::resolvers>(
                    "resolvers", "IP addresses of resolvers that clients use, beside those in their /etc/resolv.conf."),
                decode_resolvers),
    key<&NamesSettings::port>("port", "First of 16 loopback ports in each client's network namespace.", {1024, 65520}),
};
const Table kNamesTable{.name = "names", .keys = kNamesKeys, .defaults = &kFreshNames};

constexpr Key kXdsKeys[] = {
    with_decode(key<&XdsServerSettings::listen>("listen",
                                                "Address of loopback with a port, or unix:///path, for Envoy and gRPC "
                                                "clients on this host; \"\" is none."),
                decode_xds_listen),
};
const Table kXdsTable{.name = "xds", .keys = kXdsKeys, .defaults = &kFreshXds};

constexpr Key kAgentKeys[] = {
    required(
        with_decode(
            key<&AgentSettings::cgroups>(
                "cgroups",
                "Cgroups whose processes use the services, as paths below the cgroup2 mount; [/] is the whole host."),
            decode_cgroups),
        "cgroups: [/system.slice/shop.service]; [/] is the whole host"),
    with_decode(key<&AgentSettings::cgroup_root>("cgroup_root", "The cgroup2 mount; \"\" finds it in /proc/mounts."),
                decode_optional_path<&AgentSettings::cgroup_root>),
    with_decode(
        key<&AgentSettings::bpffs>("bpffs", "Folder on a BPF file system where programs, links and maps are pinned."),
        decode_path<&AgentSettings::bpffs>),
    with_decode(key<&AgentSettings::run_dir>("run_dir", "Folder for what is gone after a reboot."),
                decode_path<&AgentSettings::run_dir>),
    with_decode(key<&AgentSettings::state_dir>("state_dir",
                                               "Folder for what outlives a reboot: the last good state, the journal."),
                decode_path<&AgentSettings::state_dir>),
    with_decode(
        key<&AgentSettings::socket>("socket", "Unix socket of the admin API; meshd.sock in run_dir unless given."),
        decode_path<&AgentSettings::socket>),
    key<&AgentSettings::socket_group>("socket_group",
                                      "Group that may read over the admin socket; only root may change."),
    key<&AgentSettings::zone>("zone", "The zone this node is in, for services that prefer it."),
    key<&AgentSettings::node>("node", "The name of this node, for services that prefer it."),
    with_decode(
        key<&AgentSettings::exempt_cgroup>(
            "exempt_cgroup", "The agent's own leaf cgroup, which is never redirected; \"\" is one below its own."),
        decode_optional_path<&AgentSettings::exempt_cgroup>),
    {.name = "vip_range",
     .doc = "Where services without an address get one: a range of each family; the first sixteenth stays free.",
     .type = KeyType::kStrings,
     .decode = decode_vip_range,
     .encode = encode_vip_range},
    key<&AgentSettings::vip_route>(
        "vip_route",
        "While there are sources, make vip_range unreachable on this host: who is outside of the mesh fails at once."),
    group_key("metrics", "HTTP for monitoring.", kMetricsTable),
    choice_key<&AgentSettings::loop>("loop", "How the agent waits for its sockets.", kLoops),
    group_key("log", "What the agent writes to standard error.", kLogTable),
    key<&AgentSettings::max_probes_per_second>("max_probes_per_second", "Probes of all services together.",
                                               {1, 1'000'000}),
    key<&AgentSettings::audit_interval>(
        "audit_interval", "Time between two comparisons of the kernel tables with what is wanted.", between(1s, 1h)),
    table_key<&AgentSettings::limits>("limits", "Sizes of the kernel tables; a change holds from the next start.",
                                      kLimitsTable),
    table_key<&AgentSettings::canary>("canary", "Connects that prove the status.", kCanaryTable),
    table_key<&AgentSettings::names>("names", "Names for services.", kNamesTable),
    key<&AgentSettings::relay_port>(
        "relay_port", "First of 1024 loopback ports in each client's network namespace, for services with tls.",
        {1024, 64512}),
    table_key<&AgentSettings::xds>("xds", "An xDS server that says where connections go.", kXdsTable),
};

template <const Value* Sections::* Member>
constexpr Key section(std::string_view name, std::string_view doc, const Table* table, std::string_view schema) {
  return {.name = name,
          .doc = doc,
          .type = table != nullptr ? KeyType::kTable : KeyType::kCustom,
          .table = table,
          .schema = schema,
          .decode = [](Decoder&, const Key&, const Value& value, void* target) {
            static_cast<Sections*>(target)->*Member = &value;
          }};
}

constexpr Key kRootKeys[] = {
    required(section<&Sections::api_version>("apiVersion", "Version of this format; in every file.", nullptr,
                                             R"({"const":"meshd/v1"})"),
             "apiVersion: meshd/v1"),
    section<&Sections::agent>("agent", "The agent itself; in one file only.", &kAgentTable, ""),
    section<&Sections::defaults>("defaults", "What services don't say themselves; in one file only, holds for all.",
                                 &discovery::kPolicyTable, ""),
    section<&Sections::services>("services", "Services with their endpoints.", nullptr,
                                 R"({"type":["array","null"],"items":{"$ref":"#/definitions/service"}})"),
    section<&Sections::files>("files", "Watched files, or folders of files, with whole services.", nullptr,
                              R"({"type":["array","null"],"items":{"type":"string","pattern":"^/"}})"),
    section<&Sections::sources>("sources", "Registries that services come from, those named first first.", nullptr,
                                R"({"type":["array","null"],"items":{"$ref":"#/definitions/source"}})"),
    section<&Sections::relay>("relay", "What `meshd relay` listens on; in one file only.", &kRelayTable, ""),
};

}  // namespace

std::string normal_cgroup(std::string_view text) {
  if (!text.starts_with('/')) return {};
  std::string normal;
  while (!text.empty()) {
    text.remove_prefix(std::min(text.find_first_not_of('/'), text.size()));
    const std::string_view part = text.substr(0, text.find('/'));
    if (part == "." || part == "..") return {};
    if (!part.empty()) normal += "/" + std::string(part);
    text.remove_prefix(part.size());
  }
  return normal.empty() ? "/" : normal;
}

const Table kRootTable{.name = "", .keys = kRootKeys};
const Table kAgentTable{.name = "agent", .keys = kAgentKeys, .defaults = &kFreshAgent};

void finish_agent_settings(Decoder& decoder, const Value& value, AgentSettings& settings) {
  if (const Value* cgroups = value.find("cgroups");
      cgroups != nullptr && cgroups->items.empty() &&
      (cgroups->kind == Value::Kind::kList || cgroups->kind == Value::Kind::kNull)) {
    decoder.under("cgroups", [&] {
      decoder.error(*cgroups, "names no cgroup", "write [/system.slice/shop.service], or [/] for the whole host");
    });
  }
  if (value.find("socket") == nullptr) settings.socket = settings.run_dir + "/meshd.sock";

  const Value* const limits = value.find("limits");
  TableSizes& sizes = settings.limits;
  if (limits == nullptr || limits->find("ranges") == nullptr) {
    sizes.ranges = std::max(sizes.ranges, std::min<std::uint32_t>(sizes.services * 2, kMaxTable));
  } else if (sizes.ranges < sizes.services + 2) {
    decoder.under("limits", [&] {
      decoder.under("ranges", [&] {
        decoder.error(*limits->find("ranges"),
                      std::to_string(sizes.ranges) + " are too few for " + std::to_string(sizes.services) + " services",
                      "use " + std::to_string(sizes.services * 2) + ", or remove the key");
      });
    });
  }

  const Value* const metrics = value.find("metrics");
  if (metrics == nullptr) return;
  decoder.under("metrics", [&] {
    const CertificateFiles& files = settings.metrics_tls;
    if (files.certificate.empty() != files.key.empty()) {
      decoder.error(*metrics->find("tls"), "TLS needs a certificate and its key",
                    files.key.empty() ? "add key" : "add certificate");
    }
    const auto listen = base::SocketAddress::parse(settings.metrics_listen);
    if (!listen) return;
    if (!is_loopback(listen->ip) && settings.metrics_token_file.empty() && files.certificate.empty()) {
      decoder.error(*metrics, settings.metrics_listen + " can be reached from other machines",
                    "add tls, token_file or both");
    }
  });
}

}  // namespace mesh::app
