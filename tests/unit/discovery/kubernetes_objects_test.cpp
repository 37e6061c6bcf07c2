// SPDX-License-Identifier: Apache-2.0
#include "discovery/kubernetes_objects.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mesh::discovery::kubernetes {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

base::IpAddress ip(std::string_view text) { return *base::IpAddress::parse(text); }

constexpr std::string_view kService = R"({
  "kind": "Service", "apiVersion": "v1",
  "metadata": {"name": "orders", "namespace": "shop", "resourceVersion": "41", "uid": "u",
    "labels": {"app": "orders"},
    "annotations": {"meshd.io/balance": "maglev", "other/x": "y"},
    "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:clusterIP": {}, "f:ports": [{"port": 1}]}}}]},
  "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00::10"],
    "ipFamilies": ["IPv4", "IPv6"], "selector": {"app": "orders"}, "externalIPs": ["192.0.2.7"],
    "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP", "nodePort": 31000},
              {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "s", "port": 9, "protocol": "SCTP"}],
    "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}},
    "internalTrafficPolicy": "Local"},
  "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.8"}, {"ip": "192.0.2.9", "ipMode": "Proxy"},
    {"ip": "192.0.2.10", "ipMode": "VIP"}, {"hostname": "lb.example"}]}}})";

constexpr std::string_view kSlice = R"({
  "endpoints": [
    {"addresses": ["10.1.0.1", "10.1.0.99"], "conditions": {"ready": true, "serving": true, "terminating": false},
     "nodeName": "n1", "zone": "a", "targetRef": {"kind": "Pod", "name": "orders-0", "uid": "x"},
     "hints": {"forZones": [{"name": "a"}, {"name": "b"}], "forNodes": [{"name": "n1"}]}},
    {"addresses": ["10.1.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}},
    {"addresses": ["10.1.0.3"], "conditions": {}},
    {"addresses": ["10.1.0.4"], "conditions": {"ready": null}},
    {"addresses": ["fd00::1"]}, {"addresses": []}, {"addresses": ["no ip"]}],
  "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "", "port": null}, {"port": 70000}],
  "addressType": "IPv4", "kind": "EndpointSlice",
  "metadata": {"name": "orders-1", "namespace": "shop",
    "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-11-20T12:00:00Z"},
    "labels": {"kubernetes.io/service-name": "orders"}}})";

TEST(KubernetesObjects, a_service_is_read) {
  const auto object = read_object(kService);
  ASSERT_TRUE(object) << object.error().to_string();
  const ServiceObject& service = object->service;
  EXPECT_EQ(object->kind, "Service");
  EXPECT_EQ(service.meta.key(), "shop/orders");
  EXPECT_EQ(service.meta.resource_version, "41");
  EXPECT_THAT(service.meta.annotations, ElementsAre(std::pair("balance", "maglev")));
  EXPECT_THAT(service.cluster_ips, ElementsAre(ip("10.96.0.10"), ip("fd00::10")));
  EXPECT_THAT(service.external_ips, ElementsAre(ip("192.0.2.7"), ip("192.0.2.8"), ip("192.0.2.10")));
  EXPECT_THAT(service.ports,
              ElementsAre(ServicePort{"http", 80, model::Protocol::kTcp}, ServicePort{"dns", 53, model::Protocol::kUdp},
                          ServicePort{"s", 9, std::nullopt}));
  EXPECT_TRUE(service.client_ip_affinity && service.internal_local && service.v4 && service.v6);
  EXPECT_EQ(service.affinity_timeout, 600s);
  EXPECT_FALSE(service.headless || service.external_name || service.meta.foreign_proxy);
}

TEST(KubernetesObjects, a_slice_is_read_with_what_absent_conditions_mean) {
  const auto object = read_object(kSlice);
  ASSERT_TRUE(object) << object.error().to_string();
  const SliceObject& slice = object->slice;
  EXPECT_EQ(slice.meta.service_name, "orders");
  EXPECT_EQ(slice.meta.changed_at, "2026-11-20T12:00:00Z");
  EXPECT_EQ(slice.type, AddressType::kV4);
  ASSERT_EQ(slice.ports.size(), 3u);
  EXPECT_EQ(slice.ports[0].port, 8080);
  EXPECT_EQ(slice.ports[1].port, 0) << "nil";
  EXPECT_EQ(slice.ports[2].port, 0) << "out of range";
  ASSERT_EQ(slice.endpoints.size(), 4u) << "another family, no address and no IP are left out";
  EXPECT_EQ(slice.endpoints[0].ip, ip("10.1.0.1")) << "only the first address counts";
  EXPECT_EQ(slice.endpoints[0].node, "n1");
  EXPECT_THAT(slice.endpoints[0].zone_hints, ElementsAre("a", "b"));
  EXPECT_THAT(slice.endpoints[0].node_hints, ElementsAre("n1"));
  EXPECT_EQ(slice.endpoints[0].target, identity_hash("x"));
  EXPECT_EQ(slice.endpoints[0].pod, identity_hash("orders-0"));
  EXPECT_TRUE(!slice.endpoints[1].ready && slice.endpoints[1].serving && slice.endpoints[1].terminating);
  for (const std::size_t i : {2u, 3u}) {
    EXPECT_TRUE(slice.endpoints[i].ready && slice.endpoints[i].serving && !slice.endpoints[i].terminating);
  }
}

TEST(KubernetesObjects, a_list_hands_over_its_items_one_by_one) {
  const std::string text = R"({"kind": "ServiceList", "items": [)" + std::string(kService) + ", " +
                           std::string(kService) +
                           R"(], "metadata": {"resourceVersion": "77", "continue": "more", "remainingItemCount": 3}})";
  std::vector<std::string> names;
  const auto list = read_list(text, [&](Object&& object) {
    names.push_back(object.service.meta.name);
    EXPECT_EQ(object.service.ports.size(), 3u);
  });
  ASSERT_TRUE(list) << list.error().to_string();
  EXPECT_THAT(names, ElementsAre("orders", "orders"));
  EXPECT_EQ(list->resource_version, "77") << "of the list, not of the last item";
  EXPECT_EQ(list->next, "more");
}

TEST(KubernetesObjects, an_empty_list_is_a_list_and_another_object_is_none) {
  for (const char* const items : {"[]", "null"}) {
    const auto list = read_list(
        std::string(R"({"kind":"ServiceList","metadata":{"resourceVersion":"7"},"items":)") + items + "}", {});
    ASSERT_TRUE(list) << items;
    EXPECT_EQ(list->resource_version, "7");
    EXPECT_EQ(list->next, "");
  }
  for (const std::string_view text :
       {std::string_view("{}"), std::string_view("[]"), std::string_view("null"), std::string_view(""),
        std::string_view("<html>"), kService, std::string_view(R"({"kind":"Status","code":500})")}) {
    EXPECT_FALSE(read_list(text, {})) << text;
  }
  EXPECT_FALSE(read_list(R"({"kind":"ServiceList","items":[{"metadata":{"name":"x"}})", {})) << "cut";
}

TEST(KubernetesObjects, nesting_has_an_end) {
  std::string text = R"({"kind":"Service","x":)" + std::string(kMaxJsonDepth, '[');
  EXPECT_FALSE(read_object(text + std::string(kMaxJsonDepth, ']') + "}"));
  const std::string million(1'000'000, '[');
  EXPECT_FALSE(read_object(million));
}

TEST(KubernetesObjects, events_and_statuses_are_read) {
  const auto added = read_event(R"({"type":"ADDED","object":)" + std::string(kSlice) + "}");
  ASSERT_TRUE(added);
  EXPECT_EQ(added->type, EventType::kAdded);
  EXPECT_EQ(added->object.slice.endpoints.size(), 4u);
  const auto bookmark = read_event(
      R"({"object":{"kind":"Service","metadata":{"resourceVersion":"12746","creationTimestamp":null}},"type":"BOOKMARK"})");
  EXPECT_EQ(bookmark->type, EventType::kBookmark);
  EXPECT_EQ(bookmark->object.meta.resource_version, "12746");
  const auto gone =
      read_event(R"({"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",)"
                 R"("message":"too old resource version: 1","reason":"Expired","code":410}})");
  EXPECT_EQ(gone->type, EventType::kError);
  EXPECT_EQ(gone->object.status.code, 410);
  EXPECT_EQ(gone->object.status.reason, "Expired");
  EXPECT_EQ(read_event(R"({"type":"NEW","object":{}})")->type, EventType::kUnknown);
  EXPECT_FALSE(read_event("[1,"));
  const Status busy = read_status(R"({"kind":"Status","code":429,"details":{"retryAfterSeconds":3},"message":"m"})");
  EXPECT_EQ(busy.retry_after, 3s);
  EXPECT_EQ(read_status("<html>").code, 0);
}

TEST(KubernetesObjects, frames_may_be_cut_at_any_byte) {
  const std::string first = R"({"type":"ADDED","object":{"metadata":{"name":"a}{\"\\"}}})";
  const std::string second = R"({"type":"BOOKMARK","object":{"l":[{},[]]}})";
  for (const std::string_view between : {"", "\n", " \r\n\t"}) {
    const std::string stream = first + std::string(between) + second + std::string(between);
    for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
      for (const std::size_t width : {stream.size(), std::size_t{1}, std::size_t{7}}) {
        std::vector<std::string> frames;
        const auto keep = [&](std::string_view frame) -> base::Result<void> {
          frames.emplace_back(frame);
          return {};
        };
        Framer framer;
        ASSERT_TRUE(framer.feed(std::string_view(stream).substr(0, cut), keep));
        for (std::size_t at = cut; at < stream.size(); at += width) {
          ASSERT_TRUE(framer.feed(std::string_view(stream).substr(at, width), keep));
        }
        ASSERT_THAT(frames, ElementsAre(first, second)) << cut;
      }
    }
  }
}

TEST(KubernetesObjects, a_stream_of_something_else_or_without_end_is_refused) {
  const auto ignore = [](std::string_view) { return base::Result<void>{}; };
  EXPECT_FALSE(Framer().feed("hello", ignore));
  EXPECT_FALSE(Framer().feed("{}]", ignore));
  Framer framer;
  ASSERT_TRUE(framer.feed("{\"", ignore));
  const std::string megabyte(1 << 20, 'x');
  base::Result<void> result;
  for (int i = 0; i < 9 && result; ++i) result = framer.feed(megabyte, ignore);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, base::ErrorKind::kExhausted);
}

}  // namespace
}  // namespace mesh::discovery::kubernetes
