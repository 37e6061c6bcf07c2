// SPDX-License-Identifier: Apache-2.0
// What a service does that registers itself with Curator: Register CONNECT NAME ADDRESS PORT [KEY=VALUE]...; ends with
// its registration taken back when it is told to (SIGTERM).
import java.util.LinkedHashMap;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.RetryForever;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.UriSpec;

@SuppressWarnings("rawtypes")
public class Register {
  public static void main(String[] arguments) throws Exception {
    CuratorFramework client = CuratorFrameworkFactory.newClient(arguments[0], 4000, 4000, new RetryForever(200));
    client.start();
    LinkedHashMap<String, String> payload = new LinkedHashMap<>();
    for (int i = 4; i < arguments.length; ++i) {
      String[] parts = arguments[i].split("=", 2);
      payload.put(parts[0], parts[1]);
    }
    ServiceInstance<LinkedHashMap> instance = ServiceInstance.<LinkedHashMap>builder().name(arguments[1])
        .address(arguments[2]).port(Integer.parseInt(arguments[3])).payload(payload)
        .uriSpec(new UriSpec("{scheme}://{address}:{port}")).build();
    ServiceDiscovery<LinkedHashMap> discovery = ServiceDiscoveryBuilder.builder(LinkedHashMap.class).client(client)
        .basePath("/services").thisInstance(instance).build();
    discovery.start();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      try {
        discovery.close();
        client.close();
      } catch (Exception error) {
        System.err.println(error);
      }
    }));
    System.out.println("registered " + instance.getId());
    Thread.sleep(Long.MAX_VALUE);
  }
}
