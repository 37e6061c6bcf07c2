// SPDX-License-Identifier: Apache-2.0
#include "discovery/eureka_model.hpp"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "discovery/consul_model.hpp"

namespace mesh::discovery {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 16;
constexpr std::string_view kMetaPrefix = "meshd-";
constexpr std::array<std::string_view, 5> kStatusNames = {"DOWN", "OUT_OF_SERVICE", "STARTING", "UNKNOWN", "UP"};

/// Parts of answers that say nothing to us.
bool is_ballast(std::string_view key) {
  constexpr std::string_view kBallast[] = {
      "leaseInfo",       "homePageUrl", "statusPageUrl", "healthCheckUrl",   "secureHealthCheckUrl", "countryId",
      "vipAddress",      "sid",         "appGroupName",  "secureVipAddress", "lastUpdatedTimestamp", "asgName",
      "versions__delta", "@class"};
  return std::ranges::find(kBallast, key) != std::end(kBallast);
}

bool is_metadata_of_use(std::string_view key) {
  return key.starts_with(kMetaPrefix) || key == "zone" || key == "availability-zone" || key == "instance-id";
}

/// A member of an object; null: there is none, or this is no object.
const Json* member(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

const Json& object_at(const Json& object, const char* key) {
  static const Json kNone = Json::object();
  const Json* const found = member(object, key);
  return found != nullptr && found->is_object() ? *found : kNone;
}

std::string text_at(const Json& object, const char* key) {
  const Json* const found = member(object, key);
  return found != nullptr && found->is_string() ? found->get<std::string>() : std::string();
}

/// A number, also one that is written as text; 0: neither, or none that fits.
std::int64_t number_at(const Json& object, const char* key) {
  const Json* const found = member(object, key);
  if (found == nullptr) return 0;
  if (found->is_number_unsigned()) {
    return static_cast<std::int64_t>(std::min<std::uint64_t>(found->get<std::uint64_t>(), INT64_MAX));
  }
  if (found->is_number_integer()) return found->get<std::int64_t>();
  if (!found->is_string()) return 0;
  const std::string& text = found->get_ref<const std::string&>();
  std::int64_t number = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
  return problem == std::errc{} && end == text.data() + text.size() ? number : 0;
}

EurekaPort port_at(const Json& instance, const char* key) {
  const Json& port = object_at(instance, key);
  const Json* const enabled = member(port, "@enabled");
  const bool is_off = enabled != nullptr && *enabled != Json(true) &&
                      !(enabled->is_string() && upper_case(enabled->get<std::string>()) == "TRUE");
  return {.number = number_at(port, "$"), .enabled = !is_off};
}

EurekaStatus status_from(std::string_view text) {
  const auto found = std::ranges::find(kStatusNames, text);
  return found == kStatusNames.end() ? EurekaStatus::kUnknown : static_cast<EurekaStatus>(found - kStatusNames.begin());
}

EurekaAction action_from(std::string_view text) {
  if (text == "ADDED") return EurekaAction::kAdded;
  if (text == "MODIFIED") return EurekaAction::kModified;
  return text == "DELETED" ? EurekaAction::kDeleted : EurekaAction::kNone;
}

EurekaInstance instance_of(const Json& json) {
  const Json& metadata = object_at(json, "metadata");
  const Json& of_datacenter = object_at(object_at(json, "dataCenterInfo"), "metadata");
  EurekaInstance instance;
  instance.app = upper_case(text_at(json, "app"));
  instance.host = text_at(json, "hostName");
  instance.id = text_at(json, "instanceId");
  if (instance.id.empty()) instance.id = text_at(of_datacenter, "instance-id");
  if (instance.id.empty()) instance.id = instance.host;
  instance.status = status_from(text_at(json, "status"));
  instance.overridden = status_from(text_at(json, "overriddenStatus"));
  if (instance.overridden == EurekaStatus::kUnknown) {
    instance.overridden = status_from(text_at(json, "overriddenstatus"));
  }
  instance.address = text_at(json, "ipAddr");
  instance.port = port_at(json, "port");
  instance.secure_port = port_at(json, "securePort");
  instance.zone = text_at(metadata, "meshd-zone");
  if (instance.zone.empty()) instance.zone = text_at(metadata, "zone");
  if (instance.zone.empty()) instance.zone = text_at(of_datacenter, "availability-zone");
  for (const auto& [key, value] : metadata.items()) {
    if (key.starts_with(kMetaPrefix) && value.is_string()) instance.meta.emplace_back(key, value.get<std::string>());
  }
  instance.changed = static_cast<std::uint64_t>(std::max<std::int64_t>(0, number_at(json, "lastDirtyTimestamp")));
  instance.action = action_from(text_at(json, "actionType"));
  return instance;
}

/// Takes each instance out of the document as soon as it is read: the whole is never in memory.
class Collector {
 public:
  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    too_deep = too_deep || depth > kMaxDepth;
    if (too_deep) return false;
    const auto at = static_cast<std::size_t>(depth);
    if (event == Json::parse_event_t::key) {
      const std::string& key = parsed.get_ref<const std::string&>();
      keys_[at] = key;
      return !is_ballast(key) && (keys_[at - 1] != "metadata" || is_metadata_of_use(key));
    }
    if (event == Json::parse_event_t::array_start) keys_[at + 1].clear();  // its elements have no key
    if (event != Json::parse_event_t::object_end || at == 0) return true;
    const std::string& name = keys_[at].empty() ? keys_[at - 1] : keys_[at];
    if (name == "instance") {
      instances.push_back(instance_of(parsed));
      return false;
    }
    if (name != "application") return true;
    const std::string app = upper_case(text_at(parsed, "name"));
    for (; named_ < instances.size(); ++named_) {
      if (instances[named_].app.empty()) instances[named_].app = app;
    }
    return false;
  }

  std::vector<EurekaInstance> instances;
  bool too_deep = false;

 private:
  std::array<std::string, kMaxDepth + 2> keys_;  // of the value that is being read, by depth
  std::size_t named_ = 0;
};

std::unexpected<base::Error> not_eureka(const std::string& what) {
  return base::fail(
      base::ErrorKind::kInvalid, "read the applications of Eureka: " + what,
      "check that the address is that of Eureka's REST API: it ends in /eureka with Spring, in /eureka/v2 "
      "with Netflix");
}

}  // namespace

base::Result<EurekaAnswer> parse_eureka(std::string_view body) {
  Collector collector;
  const Json json = Json::parse(body, std::ref(collector), false);
  if (collector.too_deep) return not_eureka("nested deeper than " + std::to_string(kMaxDepth) + " levels");
  if (json.is_discarded()) return not_eureka("not JSON");
  const Json* const applications = member(json, "applications");
  if (applications == nullptr || !applications->is_object()) return not_eureka("no applications in it");
  return EurekaAnswer{.hash = text_at(*applications, "apps__hashcode"), .instances = std::move(collector.instances)};
}

std::string eureka_hash(const EurekaCounts& counts) {
  std::string hash;
  for (std::size_t status = 0; status < counts.size(); ++status) {
    if (counts[status] > 0) hash += std::string(kStatusNames[status]) + "_" + std::to_string(counts[status]) + "_";
  }
  return hash;
}

std::string upper_case(std::string_view text) {
  std::string upper(text);
  std::ranges::transform(upper, upper.begin(),
                         [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - ('a' - 'A')) : c; });
  return upper;
}

const EurekaRule* find_eureka_rule(const std::vector<EurekaRule>& rules, std::string_view app) {
  const std::string upper = upper_case(app);
  const auto found = std::ranges::find_if(rules, [&](const EurekaRule& rule) {
    return rule.match == kMatchAll || matches_pattern(upper_case(rule.match), upper);
  });
  return found == rules.end() ? nullptr : &*found;
}

Instance to_instance(const EurekaInstance& from, const EurekaRule& rule) {
  const EurekaPort& port = rule.secure ? from.secure_port : from.port;
  const bool address_is_host = !base::IpAddress::parse(from.address) && base::IpAddress::parse(from.host);
  Instance instance{.label = "instance " + from.id,
                    .address = address_is_host ? from.host : from.address,
                    .port = port.enabled ? port.number : 0,
                    .zone = from.zone,
                    .node = from.host,
                    .meta = from.meta,
                    .changed = from.changed};
  const bool ordered_out = from.status == EurekaStatus::kUp && from.overridden == EurekaStatus::kOutOfService;
  if (from.status == EurekaStatus::kOutOfService || ordered_out) {
    instance.draining = true;
    instance.rank = 1;
  } else if (from.status != EurekaStatus::kUp) {
    instance.weight = 0;
    instance.weight_is_fixed = true;
    instance.rank = 2;
  }
  return instance;
}

}  // namespace mesh::discovery
